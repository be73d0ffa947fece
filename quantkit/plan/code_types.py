"""Which integers the codes of an activation are, and what a range means in them.

- uint8, uint16: any zero point, ``scale = (high - low) / qmax``.
- int8, int16: symmetric, zero point 0, ``scale = max(|low|, |high|) / qmax``.
"""

from collections.abc import Mapping

import numpy as np

from quantkit.config import QuantConfig
from quantkit.errors import ConfigError
from quantkit.graph.program import Program
from quantkit.numerics.affine import QuantParams, params_from_range, per_tensor
from quantkit.plan.refusals import data_values, rule_of
from quantkit.range_estimators.contract import Range

_DTYPES: Mapping[tuple[str, bool], np.dtype[np.integer]] = {
    ("uint8", False): np.dtype(np.uint8),
    ("uint8", True): np.dtype(np.uint16),
    ("int8", False): np.dtype(np.int8),
    ("int8", True): np.dtype(np.int16),
}


def activation_dtype(config: QuantConfig, *, is_wide: bool = False) -> np.dtype[np.integer]:
    """The dtype of an activation's codes.

    Args:
        config: The user's choices.
        is_wide: Whether the codes have 16 bits.
    """
    return _DTYPES[config.activation_type, is_wide]


def params_of_range(found: Range, dtype: np.dtype[np.integer]) -> QuantParams:
    """Parameters that cover a range; signed codes are symmetric."""
    return params_from_range(found.low, found.high, dtype, symmetric=dtype.kind == "i")


def unit_params(dtype: np.dtype[np.integer]) -> QuantParams:
    """Parameters of outputs that their function fixes to [0, 1] (Softmax, Sigmoid).

    The scale is a power of two, 1/256 rather than 1/255: what every runtime's kernels expect. With
    zero point 0 the codes of [0, 1) fill the positive half of a signed dtype (1/128, 1/32768).
    """
    return per_tensor(1 / (int(np.iinfo(dtype).max) + 1), 0, dtype)


def values_in_16_bits(
    program: Program, config: QuantConfig, groups: Mapping[str, str]
) -> frozenset[str]:
    """The values whose statistics give the parameters of ``tensors_in_16_bits``.

    A named value that stays float has no codes; naming it changes nothing.

    Args:
        program: The prepared float graph.
        config: The user's choices.
        groups: From ``range_groups``.

    Raises:
        ConfigError: A name is no activation.
    """
    if not config.tensors_in_16_bits:
        return frozenset()
    known = _activations(program)
    for name in config.tensors_in_16_bits:
        if name in known:
            continue
        if name in program.constants:
            raise ConfigError(
                f"--tensor-in-16-bits: {name!r} is a constant that is no operand of an "
                "activation; weights have 8 bits"
            )
        close = ", ".join(sorted(n for n in known if name.lower() in n.lower())[:3])
        hint = f"; did you mean {close}?" if close else "; `quantkit show` lists the names"
        raise ConfigError(f"--tensor-in-16-bits: no activation is called {name!r}{hint}")
    return frozenset(groups.get(name, name) for name in config.tensors_in_16_bits)


def _activations(program: Program) -> frozenset[str]:
    """Inputs, computed values, and constants that take the place of activations."""
    names = {spec.name for spec in program.inputs}
    for node in program.nodes:
        names.update(filter(None, node.outputs))
        if rule_of(node) is not None:
            names.update(data_values(node, program.constants))
    return frozenset(names)
