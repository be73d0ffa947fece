"""Which nodes are one layer, and in which order layers are kept."""

import math

import numpy as np

from quantkit.config import QuantConfig
from quantkit.passes.prepare import prepare
from quantkit.recovery.sensitivity import (
    Layer,
    Sensitivity,
    keep_costs,
    keeping,
    order_of_keeping,
    quantized_layers,
    sensitivities,
)
from tests.models import conv_bn_relu6, network, normal
from tests.tuned_network import CONFIG, planted_network


def layer(name: str, macs: int | None = 1) -> Layer:
    return Layer(name, "Conv", (name,), (name,), macs)


def test_what_has_no_products_belongs_to_the_node_before_it() -> None:
    layers = quantized_layers(prepare(planted_network()), CONFIG)
    assert {each.name: each.nodes for each in layers} == {
        "conv1": ("conv1",),
        "conv2": ("conv2",),
        "conv3": ("conv3", "add", "mean"),
        "linear": ("linear",),
    }
    assert [each.macs for each in layers] == [6 * 27 * 64, 6 * 54 * 64, 6 * 54 * 64, 24]
    # The clamps' codes are their producers', and what an Add reads is its layer's.
    assert "r1" in layers[0].tensors
    assert {"r2", "c3", "a", "m"} <= set(layers[2].tensors)


def test_an_add_of_the_input_belongs_to_the_latest_convolution() -> None:
    layers = quantized_layers(prepare(conv_bn_relu6()), QuantConfig())
    assert [each.nodes for each in layers] == [("conv",), ("depthwise", "add")]


def test_what_no_product_comes_before_is_a_layer_of_its_own() -> None:
    model = network(
        "[twice] t = Add (x, x) [conv] c = Conv (t, w) [flat] y = Flatten (c)",
        {"w": normal(2, 3, 3, 3)},
        outputs="float[N,D] y",
    )
    layers = quantized_layers(prepare(model), QuantConfig())
    assert [(each.name, each.macs) for each in layers] == [("twice", 0), ("conv", 2 * 27 * 36)]


def test_float_nodes_are_no_layers() -> None:
    chosen = CONFIG.model_copy(update={"nodes_to_exclude": ("conv3",)})
    layers = quantized_layers(prepare(planted_network()), chosen)
    # What follows the float node belongs to the integer layer before it.
    assert [each.nodes for each in layers] == [
        ("conv1",),
        ("conv2", "add", "mean"),
        ("linear",),
    ]


def test_keeping_adds_to_what_is_kept_already() -> None:
    config = QuantConfig(nodes_to_exclude=("a",), tensors_in_16_bits=("t",))
    layers = [Layer("a", "Conv", ("a", "b"), ("t", "u"), 1)]
    assert keeping(config, layers).nodes_to_exclude == ("a", "b")
    assert keeping(config, layers).tensors_in_16_bits == ("t",)
    assert keeping(config, layers, "16bit").tensors_in_16_bits == ("t", "u")
    assert keeping(config, layers, "16bit").nodes_to_exclude == ("a",)
    assert keeping(config, []) == config


def test_layers_are_ranked_by_what_each_loses_alone() -> None:
    noise = {"a": 1.0, "b": 100.0, "c": 0.0}
    told: list[tuple[int, int]] = []

    def sqnr_db(config: QuantConfig) -> float:
        left = sum(noise[name] for name in noise if name not in config.nodes_to_exclude)
        return -10.0 * math.log10(left / 1e4) if left else math.inf

    found = sensitivities(
        [layer(name) for name in noise],
        QuantConfig(),
        sqnr_db,
        progress=lambda done, total: told.append((done, total)),
    )
    assert [(each.layer.name, each.alone_db) for each in found] == [
        ("b", 20.0),
        ("a", 40.0),
        ("c", math.inf),
    ]
    np.testing.assert_allclose(found[0].without_db, 40.0)
    np.testing.assert_allclose([each.noise for each in found], [1e-2, 1e-4, 0.0])
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_much_noise_for_few_products_comes_first() -> None:
    ranking = [
        Sensitivity(layer("large", 1000), 10.0, 0.0),
        Sensitivity(layer("small", 10), 20.0, 0.0),
        Sensitivity(layer("free", 0), 40.0, 0.0),
        Sensitivity(layer("exact", 10), math.inf, 0.0),
    ]
    # Noise per product: 1e-4, 1e-3, 1e-4 (as of one product), 0.
    assert order_of_keeping(ranking) == ("small", "large", "free", "exact")
    assert keep_costs([each.layer for each in ranking])["free"] == 0.0


def test_unknown_products_make_all_layers_equal() -> None:
    layers = [layer("a", None), layer("b", 1000)]
    assert keep_costs(layers) == {"a": 1.0, "b": 1.0}
