"""What differs between two quantized models, as plain data; nothing is rendered here.

Weight codes are compared less their zero points: ``uint8`` around 128 and ``int8`` around 0 hold
the same numbers. Everything is in the order of what differs most.
"""

from collections.abc import Mapping
from typing import Literal

from quantkit.reporting.plain_data import Frozen

Role = Literal["weight", "bias", "operand"]


class NamedNode(Frozen):
    """A node of one of the models.

    Attributes:
        node: Its name.
        op_type: Its op.
    """

    node: str
    op_type: str


class FieldDifference(Frozen):
    """A field with another value, or that only one of both has.

    Attributes:
        name: Of the field: "config.per_channel".
        first: Its value as text; None where the first has no such field.
        second: That of the second.
    """

    name: str
    first: str | None
    second: str | None


class ArithmeticDifference(Frozen):
    """A node that is quantized in one model and float in the other.

    Attributes:
        node: Its name.
        op_type: Its op.
        quantized_in: "first" or "second".
        reason: Why it stays float in the other.
    """

    node: str
    op_type: str
    quantized_in: Literal["first", "second"]
    reason: str


class TensorParams(Frozen):
    """What the codes of an activation mean.

    Attributes:
        dtype: Of the codes.
        scale: Per tensor.
        zero_point: Per tensor.
    """

    dtype: str
    scale: float
    zero_point: int


class ActivationDifference(Frozen):
    """An activation whose codes mean something else.

    Attributes:
        value: Its name in the first model.
        first: None where it is float in the first model.
        second: None where it is float in the second.
        scale_ratio: Second by first scale; None where one of them is float.
    """

    value: str
    first: TensorParams | None
    second: TensorParams | None
    scale_ratio: float | None


class ConstantDifference(Frozen):
    """Integer constants of a node that differ.

    Attributes:
        node: The node that reads them.
        role: What they are to it.
        dtypes: Of the codes, in both.
        shapes: In both.
        codes: How many codes there are in the first model.
        changed_codes: How many differ, less their zero points; None for other shapes.
        largest_code_change: Of them, in codes; None for other shapes.
        scales: How many scales the second model has: one, or one per channel.
        changed_scales: How many of them differ from the first model's.
        largest_scale_ratio: The one farthest from 1, second by first; None where other numbers of
            channels cannot be compared.
    """

    node: str
    role: Role
    dtypes: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    codes: int
    changed_codes: int | None
    largest_code_change: int | None
    scales: int
    changed_scales: int | None
    largest_scale_ratio: float | None


class Totals(Frozen):
    """What was compared, and how much of it differs.

    Attributes:
        nodes: Nodes that both models have.
        activations: Activations quantized in both.
        changed_activations: Of them with another scale, zero point or dtype.
        weight_codes: Codes of weights that are integers in both, of the same shape.
        changed_weight_codes: Of them.
        biases: Codes of biases, likewise.
        changed_biases: Of them.
        operands: Codes of other constants, likewise.
        changed_operands: Of them.
    """

    nodes: int
    activations: int
    changed_activations: int
    weight_codes: int
    changed_weight_codes: int
    biases: int
    changed_biases: int
    operands: int
    changed_operands: int


class ModelDifferences(Frozen):
    """Two quantized models, compared.

    Attributes:
        kind: Tells this JSON from that of two reports.
        first: File name.
        second: File name.
        totals: What was compared.
        boundaries: Inputs and outputs that differ.
        file_ops: Nodes in the files by op, where their number differs: QDQ against QOperator.
        only_first: Nodes that the second model has not.
        only_second: Nodes that the first model has not.
        nodes: Nodes that both have, with another op, attribute or float constant.
        arithmetic: Quantized in one, float in the other.
        activations: The largest change of a scale first.
        constants: Weights, other constants, biases; the largest share of changed codes first.
        metadata: Recipe and metadata, field by field.
    """

    kind: Literal["models"] = "models"
    first: str
    second: str
    totals: Totals
    boundaries: tuple[FieldDifference, ...]
    file_ops: tuple[FieldDifference, ...]
    only_first: tuple[NamedNode, ...]
    only_second: tuple[NamedNode, ...]
    nodes: tuple[FieldDifference, ...]
    arithmetic: tuple[ArithmeticDifference, ...]
    activations: tuple[ActivationDifference, ...]
    constants: tuple[ConstantDifference, ...]
    metadata: tuple[FieldDifference, ...]

    @property
    def are_integers_same(self) -> bool:
        """Whether both compute the same codes: they differ in form and metadata at most."""
        found = (self.boundaries, self.only_first, self.only_second, self.nodes)
        return not any((*found, self.arithmetic, self.activations, self.constants))

    @property
    def is_same(self) -> bool:
        """Whether nothing differs."""
        return self.are_integers_same and not self.file_ops and not self.metadata


def field_differences(
    first: Mapping[str, str], second: Mapping[str, str]
) -> tuple[FieldDifference, ...]:
    """Fields that differ, in the order of the first, then of the second."""
    names = dict.fromkeys((*first, *second))
    return tuple(
        FieldDifference(name=name, first=first.get(name), second=second.get(name))
        for name in names
        if first.get(name) != second.get(name)
    )
