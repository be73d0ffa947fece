import numpy as np
import pytest

from quantkit.config import QuantConfig
from quantkit.graph.ort_session import open_session, with_outputs
from quantkit.integer_session import open_integer_session
from quantkit.recovery.side_by_side import first_values, kept, passed, sample_bytes
from tests.small_networks import NETWORKS, quantized

ONE_INPUT = sorted(set(NETWORKS) - {"two_inputs"})


@pytest.mark.parametrize("name", ONE_INPUT)
def test_both_networks_give_what_they_give_alone(name: str) -> None:
    network = NETWORKS[name]
    model, _ = quantized(network, QuantConfig(per_channel=False))
    program = model.prepared.program
    feeds = [network.feeds(2, seed) for seed in (5, 6, 7)]
    session = open_integer_session(model, threads=1)
    values = first_values(model, feeds)
    outputs = [output for node in program.nodes for output in node.outputs if output]
    computed = open_session(with_outputs(model.prepared.model, outputs), threads=1)
    expected = [computed.run(feed) for feed in feeds]
    codes = [session.run_codes(feed, outputs) for feed in feeds]
    for position, step in enumerate(session.steps):
        made = passed(model, session, step, values)
        for at, value in enumerate(made):
            for key in filter(None, step.node.outputs):
                real = np.asarray(expected[at][key])
                np.testing.assert_allclose(value.real[key], real, rtol=1e-4, atol=1e-5)
                np.testing.assert_array_equal(value.codes[key], codes[at][key])
        values = kept(program, position, values, made)
        later = {name for node in program.nodes[position + 1 :] for name in node.inputs}
        for value in values:
            assert set(value.real) == set(value.codes)
            assert set(value.real) <= later
    assert not values[0].real


def test_what_a_sample_takes() -> None:
    model, _ = quantized(NETWORKS["matmul"])
    # The Relu's input and output: 6 x 12 each.
    assert sample_bytes(model) == 5 * (6 * 12 + 6 * 12)
