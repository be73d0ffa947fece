"""A report with something in every field, without measuring anything."""

import base64
import io
import math

import numpy as np
from PIL import Image

from quantkit.reporting.layer import Accumulator, Histogram, Layer, TensorRange, WeightRanges
from quantkit.reporting.report import (
    FLOAT_LABEL,
    INT8_LABEL,
    INTEGER_LABEL,
    Cause,
    ChangedPrediction,
    ClassFlip,
    Cost,
    Drop,
    EngineRow,
    Remedy,
    Report,
    SplitRow,
    TriedFix,
)

CLASSES = ("cat", "dog", "horse & <foal>")


def example_report(layers: int = 12) -> Report:
    """Numbers that no two fields share, so that a mix-up shows."""
    return Report(
        float_model="net.onnx",
        quantized_model="net.int8.onnx",
        samples=650,
        skipped=2,
        metric="metrics:mean_rank",
        class_names=CLASSES,
        engines=(
            _engine(FLOAT_LABEL, 71.692307, 90.153846, None, {}, 9.876, 13_964_571),
            _engine(INT8_LABEL, 71.384615, 90.0, 98.461538, {"logits": 24.4444}, 4.321, 3_655_222),
            _engine(
                INTEGER_LABEL, 71.230769, 89.846153, 98.307692, {"logits": 24.1111}, None, None
            ),
        ),
        drop=Drop(
            points=0.307692,
            low=-0.834567,
            high=1.456789,
            p_value=0.774414,
            right_to_wrong=7,
            wrong_to_right=5,
        ),
        metric_drop=Drop(
            metric="metrics:mean_rank",
            unit="",
            points=0.0123,
            low=-0.0345,
            high=0.0456,
            p_value=None,
            right_to_wrong=None,
            wrong_to_right=None,
        ),
        cost=Cost(
            macs=300_774_272,
            int8_mac_percent=99.75,
            float_peak_bytes=4_816_896,
            int8_peak_bytes=1_204_224,
        ),
        split=(
            SplitRow(
                label="weights only",
                sqnr_db={"logits": 28.5},
                agreement_percent=99.1,
                top1_percent=71.5,
            ),
            SplitRow(
                label="activations only",
                sqnr_db={"logits": 26.25},
                agreement_percent=98.9,
                top1_percent=71.6,
            ),
            SplitRow(
                label="both",
                sqnr_db={"logits": 24.4444},
                agreement_percent=98.461538,
                top1_percent=71.384615,
            ),
        ),
        kept_float={"softmax": "onnxruntime has no integer kernel for it"},
        layers_without_reference=1,
        layer_samples=16,
        layers=tuple(_layer(index) for index in range(layers)),
        causes=(
            Cause(
                node="conv3",
                cause="outlier channel",
                evidence="channel 17 reaches 212.5 times as far as the median channel",
                remedy=Remedy(
                    text="--cross-layer-equalization", config={"cross_layer_equalization": True}
                ),
                noise_percent=61.5,
            ),
            Cause(
                node="",
                cause="too few samples",
                evidence="ranges come from 2 samples",
                remedy=Remedy(
                    text="calibrate on at least 128 samples (--num-samples 128)", recalibrate=True
                ),
            ),
        ),
        fixes=(
            TriedFix(
                text="calibrated anew, nothing else",
                cause="",
                sqnr_db=(24.4444, 24.5),
                agreement_percent=(98.4, 98.5),
            ),
            TriedFix(
                text="--cross-layer-equalization",
                cause="outlier channel",
                sqnr_db=(24.4444, 27.75),
                agreement_percent=(98.4, 99.2),
            ),
        ),
        changed=tuple(
            ChangedPrediction(
                sample=f"pictures/{index:03d} <a>.jpg",
                label=index % 3,
                float_class=index % 3,
                int8_class=(index + 1) % 3,
                float_margin=0.125 * (index + 1),
                picture=_picture(index),
            )
            for index in range(6)
        ),
        changed_count=10,
        flips=(
            ClassFlip(float_class=0, int8_class=1, count=6),
            ClassFlip(float_class=2, int8_class=0, count=4),
        ),
        provenance={
            "quantkit": "0.1.0",
            "onnxruntime": "1.32.0",
            "command": "quantkit report net.onnx net.int8.onnx --data pictures",
            "model.config": '{"per_channel": true}',
        },
    )


def _engine(
    label: str,
    top1: float,
    top5: float,
    agreement: float | None,
    sqnr_db: dict[str, float],
    latency_ms: float | None,
    size: int | None,
) -> EngineRow:
    return EngineRow(
        label=label,
        top1_percent=top1,
        top5_percent=top5,
        metric=top1 / 1000,
        agreement_percent=agreement,
        tied=None if label == FLOAT_LABEL else 3,
        sqnr_db=sqnr_db,
        latency_ms=latency_ms,
        size_bytes=size,
    )


def _layer(index: int) -> Layer:
    if index == 5:
        return Layer(
            node="softmax",
            op_type="Softmax",
            value="probabilities",
            macs=0,
            isolated_sqnr_db=None,
            accumulated_sqnr_db=25.125,
            accumulated_cosine=0.99875,
            saturated_percent=None,
            kept_float="onnxruntime has no integer kernel for it",
        )
    rng = np.random.default_rng(index)
    counts = tuple(int(count) for count in np.histogram(rng.normal(size=4000), bins=96)[0])
    ranges = tuple(float(value) for value in rng.uniform(0.1, 2.0, 16))
    return Layer(
        node=f"conv{index}",
        op_type="Conv" if index % 2 else "Add",
        value=f"conv{index}_output",
        macs=1_000_000 * (index + 1),
        isolated_sqnr_db=math.inf if index == 7 else 40.0 - 1.375 * index,
        accumulated_sqnr_db=35.0 - 0.875 * index,
        isolated_cosine=0.9999 - 0.001 * index,
        accumulated_cosine=0.9989 - 0.001 * index,
        network_sqnr_db=50.0 - 2.25 * index,
        saturated_percent=0.0625 * index,
        kept_float=None,
        output=TensorRange(
            dtype="uint8",
            scale=0.03125,
            zero_point=128,
            low=-4.0,
            high=3.96875,
            minimum=-4.25 - index,
            maximum=4.125 + index,
            clipped_percent=0.03125 * index,
            histogram=Histogram(start=-4.25 - index, width=(8.375 + 2 * index) / 96, counts=counts),
        ),
        weight=WeightRanges(
            source=ranges if index % 3 else None,
            folded=tuple(2 * value for value in ranges),
            quantized=tuple(1.5 * value for value in ranges),
            scales=tuple(1.5 * value / 127 for value in ranges),
        ),
        accumulator=Accumulator(
            bound=2**20 + index,
            bits=22,
            multiplier=(0.0009765625, 0.00390625),
            mantissa=(2**30, 2**30),
            shift=(40, 38),
        ),
    )


def _picture(index: int) -> str:
    pixels = np.full((48, 64, 3), 40 * index, np.uint8)
    pixels[:24, :, 0] = 200
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return base64.b64encode(stream.getvalue()).decode()
