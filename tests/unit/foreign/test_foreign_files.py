"""Foreign files are data only, and load completely or not at all: every misfit is in one error."""

from __future__ import annotations

import argparse
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from snn2chip_models import build

import snn2chip
from snn2chip.checkpoint import CheckpointHeader, InputSpec, save_checkpoint
from snn2chip.errors import FileFormatError, InputError
from snn2chip.foreign import detect_layout, load_foreign, read_foreign

ARGS = {"blocks": [1, 1], "channels": [3, 4], "strides": [1, 2], "stem_channels": 3, "input_shape": [3, 8, 8]}


def resnet_state(**changes):
    """A state_dict with torchvision's names: two basic blocks of 3 and 4 channels, 5 classes."""
    torch.manual_seed(0)
    state = {"conv1.weight": torch.randn(3, 3, 3, 3)}

    def norm(name, channels):
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{leaf}"] = torch.rand(channels)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    norm("bn1", 3)
    for s, (a, b) in enumerate(((3, 3), (3, 4)), start=1):
        for i, inputs in ((1, a), (2, b)):
            state[f"layer{s}.0.conv{i}.weight"] = torch.randn(b, inputs, 3, 3)
            norm(f"layer{s}.0.bn{i}", b)
    state["layer2.0.downsample.0.weight"] = torch.randn(4, 3, 1, 1)
    norm("layer2.0.downsample.1", 4)
    state |= {"fc.weight": torch.randn(5, 4), "fc.bias": torch.randn(5)}
    return state | changes


def put(tmp_path, what, name="a.pth", **options):
    torch.save(what, tmp_path / name, **options)
    return tmp_path / name


def load(path, **more):
    return load_foreign(path, **{"model": "resnet18", "args": ARGS, **more})


def equals(model, state):
    own = model.state_dict()
    assert torch.equal(own["stem.conv.weight"], state["conv1.weight"])
    assert torch.equal(own["stages.stage2.0.shortcut.norm.running_var"], state["layer2.0.downsample.1.running_var"])
    assert torch.equal(own["stages.stage1.0.synapse2.conv.weight"], state["layer1.0.conv2.weight"])
    assert torch.equal(own["head.head.bias"], state["fc.bias"])
    assert own["stem.norm.num_batches_tracked"] == 7
    assert len(own) == len(state)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "net", None])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "old"])
def test_wrapped_and_prefixed_torch_files_load_and_name_what_they_leave_out(tmp_path, wrapper, zipped):
    state = resnet_state()
    kept = {f"module.{k}": v for k, v in state.items()}
    rest = {"epoch": 12, "optimizer": {"param_groups": [{"lr": 0.1}]}, "best": 0.93}
    what = {wrapper: kept, **rest} if wrapper else {**kept, **rest}
    model, header = load(put(tmp_path, what, _use_new_zipfile_serialization=zipped))
    equals(model, state)
    assert not model.training
    assert header.provenance["foreign"]["left_out"] == ["epoch", "optimizer", "best"]
    assert header.classes == ("0", "1", "2", "3", "4")


def test_safetensors_and_the_public_name(tmp_path):
    state = resnet_state()
    save_file(state, tmp_path / "a.safetensors")
    model, header = snn2chip.load_foreign(tmp_path / "a.safetensors", model="resnet18", args=ARGS)
    equals(model, state)
    assert header.input == InputSpec(shape=(3, 8, 8))


def test_tensors_beside_the_state_dict_are_left_out_by_name(tmp_path):
    file = read_foreign(put(tmp_path, {"net": {"a.weight": torch.ones(2), "k": 3}, "ema": torch.ones(4)}))
    assert list(file.tensors) == ["a.weight"]
    assert file.left_out == ("ema", "k")


def test_given_classes_and_input_are_kept_and_must_fit(tmp_path):
    path = put(tmp_path, resnet_state())
    spec = InputSpec(shape=(3, 8, 8), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2))
    _, header = load(path, input=spec, classes="abcde")
    assert (header.input, header.classes) == (spec, tuple("abcde"))
    with pytest.raises(InputError) as caught:
        load(path, input=InputSpec(shape=(1, 8, 8)), classes=["a"])
    assert [text.split(":")[0] for text in caught.value.breaches] == ["classes", "input"]


def test_norms_without_a_counter_load_and_half_precision_is_widened(tmp_path):
    state = resnet_state()
    old = {k: v.half() for k, v in state.items() if not k.endswith("num_batches_tracked")}
    model, _ = load(put(tmp_path, old))
    assert torch.equal(model.state_dict()["head.head.weight"], state["fc.weight"].half().float())
    assert model.state_dict()["stem.norm.num_batches_tracked"] == 0


def test_everything_that_does_not_fit_is_in_one_error(tmp_path):
    state = resnet_state()
    del state["bn1.running_var"], state["layer2.0.conv2.weight"]
    state |= {
        "extra.weight": torch.ones(2),
        "layer1.0.sn1.alpha": torch.ones(1),
        "layer1.0.bn1.bias": torch.ones(3, 1),
        "fc.weight": torch.ones(5, 4, dtype=torch.float64),
        "fc.bias": torch.ones(5, dtype=torch.int8),
    }
    with pytest.raises(FileFormatError) as caught:
        load(put(tmp_path, state))
    lines = str(caught.value).splitlines()
    assert lines[0].endswith("7 tensors do not fit resnet18 in layout torchvision:")
    assert sorted(line.removeprefix("  - ") for line in lines[1:]) == [
        "missing bn1.running_var [3] (stem.norm.running_var)",
        "missing layer2.0.conv2.weight [4, 4, 3, 3] (stages.stage2.0.synapse2.conv.weight)",
        "shape of layer1.0.bn1.bias: the file has [3, 1], stages.stage1.0.synapse1.norm.bias is [3]",
        "type of fc.bias: int8 does not fit into float32 without losing digits",
        "type of fc.weight: float64 does not fit into float32 without losing digits",
        "unexpected extra.weight [2]",
        "unexpected layer1.0.sn1.alpha [1]",
    ]


def test_the_wrong_architecture_names_every_tensor(tmp_path):
    state = resnet_state()
    path = put(tmp_path, state)
    with pytest.raises(FileFormatError) as caught:
        load(path, model="vgg16", args={})
    text = str(caught.value)
    wanted = build("vgg16", activation="relu").state_dict()
    assert sum(line.startswith("  - unexpected") for line in text.splitlines()) == len(state)
    missing = sum(not name.endswith("num_batches_tracked") for name in wanted)
    assert sum(line.startswith("  - missing") for line in text.splitlines()) == missing
    with pytest.raises(FileFormatError, match=r"missing layer1.1.conv1.weight"):
        load(path, args={**ARGS, "blocks": [2, 1]})


def test_a_prefix_on_some_names_only_stays_and_is_said(tmp_path):
    state = resnet_state()
    mixed = {("module." if k.startswith("fc") else "") + k: v for k, v in state.items()}
    with pytest.raises(FileFormatError, match=r"4 tensors .*some names start with `module.` and some do not") as caught:
        load(put(tmp_path, mixed), layout="torchvision")
    for text in ("missing fc.weight", "missing fc.bias", "unexpected module.fc.weight", "unexpected module.fc.bias"):
        assert text in str(caught.value)
    with pytest.raises(InputError, match=r"fit no known layout.*some names start with `module.`"):
        load(tmp_path / "a.pth")


def test_layouts_are_recognised_or_the_candidates_are_listed():
    assert detect_layout(resnet_state()).name == "torchvision"
    assert detect_layout(["features.0.weight", "classifier.6.weight"]).name == "torchvision"
    assert detect_layout(["layer1.0.0.weight", "layer1.1.alpha", "layer1.1.mask"]).name == "lm-ht"
    assert detect_layout(["layer1.0.weight", "layer1.2.thresh"]).name == "qcfs"
    assert detect_layout(["conv1.2.up"]).name == "qcfs"
    with pytest.raises(InputError, match=r"fit several layouts: lm-ht .*; qcfs "):
        detect_layout(["a.alpha", "a.mask", "b.thresh"])
    with pytest.raises(InputError, match=r"\(a.weight\) fit no known layout: lm-ht .*; qcfs .*; torchvision "):
        detect_layout(["a.weight"])


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"layout": "keras"}, "layout 'keras' is unknown; known: lm-ht, qcfs, torchvision"),
        ({"model": "my.module:net"}, "is unknown; foreign layouts fit resnet101, resnet18,"),
        ({"model": "mlp"}, "not for MLP"),
        ({"model": "resnet18-empf"}, "not for EMPFResNet"),
        ({"args": {**ARGS, "preactivation": True}}, "not preactivation=true"),
        ({"model": "resnet19"}, "no names for hidden=\\[256\\] of a ResNet"),
        ({"model": "small-vgg", "args": {"seca": True}}, "no name for layers.seca1_1.conv.weight"),
        ({"args": {**ARGS, "depth": 3}}, "no argument 'depth'"),
        ({"args": {**ARGS, "qat": True}}, "leave out qat"),
        ({"layout": "qcfs"}, "does not say its levels"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_does_not_go_together_is_bad_input(tmp_path, more, text):
    with pytest.raises(InputError, match=text):
        load(put(tmp_path, resnet_state()), **more)


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("where", ["beside", "inside", "alone", "plain pickle", "old"])
def test_nothing_in_a_file_is_run(tmp_path, where):
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    evil = Evil(mark)
    what = {
        "beside": {"model": resnet_state(), "args": evil},
        "inside": {"model": resnet_state(x=evil)},
        "old": {"model": resnet_state(), "args": evil},
    }.get(where, evil)
    if where == "plain pickle":
        path.write_bytes(pickle.dumps({"model": evil}))
    else:
        put(tmp_path, what, "evil.pth", _use_new_zipfile_serialization=where != "old")
    with pytest.raises(FileFormatError, match=r"evil\.pth: .*holds .*never unpickled") as refused:
        load(path)
    assert "weights_only" not in str(refused.value)
    assert not mark.exists()
    with open(path, "rb") as file:  # the trap itself works
        torch.load(file, weights_only=False) if where != "plain pickle" else pickle.load(file)
    assert mark.exists()


def test_files_with_objects_say_how_to_save_them(tmp_path):
    path = put(tmp_path, {"model": resnet_state(), "args": argparse.Namespace(lr=0.1)})
    with pytest.raises(FileFormatError, match=r"holds argparse\.Namespace, which is never.* save its state_dict alone"):
        load(path)


def test_damaged_and_unfit_files_are_refused(tmp_path):
    sound = put(tmp_path, resnet_state()).read_bytes()
    (tmp_path / "cut.pth").write_bytes(sound[: len(sound) // 2])
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    put(tmp_path, [1, 2], "list.pth")
    put(tmp_path, {"epoch": 1}, "none.pth")
    put(tmp_path, {"model": resnet_state(), "net": resnet_state()}, "two.pth")
    put(tmp_path, resnet_state(**{"fc.bias": torch.zeros(1).expand(5)}), "claims.pth")
    put(tmp_path, resnet_state(**{"fc.bias": torch.zeros(5).to_sparse()}), "sparse.pth")
    save_checkpoint(
        tmp_path / "ours.safetensors",
        torch.nn.Linear(1, 1),
        CheckpointHeader(model="m:f", args={}, method="relu", T=1, L=1, input=InputSpec(shape=(1,)), classes=("a",)),
    )
    texts = {
        "absent.pth": "no such file",
        "cut.pth": "damaged",
        "empty.pth": "damaged",
        "cut.safetensors": "damaged",
        "list.pth": "holds a list",
        "none.pth": "no tensors under names, only epoch",
        "two.pth": "several state_dicts, under model, net",
        "claims.pth": r"no dense tensors .*: fc.bias \[5\]",
        "sparse.pth": r"no dense tensors .*: fc.bias \[5\]",
        "ours.safetensors": "a checkpoint of snn2chip itself",
    }
    for name, text in texts.items():
        with pytest.raises(FileFormatError, match=text):
            load(tmp_path / name)


def test_a_file_that_would_need_a_huge_net_is_refused_before_it_is_built(tmp_path):
    state = resnet_state()
    state["classifier.0.weight"] = torch.zeros(300_000, 1)  # hidden = 300,000 of a 224 x 224 VGG: 7.5e9 numbers
    state["classifier.3.weight"] = torch.zeros(5, 1)
    with pytest.raises(FileFormatError, match=r"shape of classifier.0.weight: .* is \[300000, 25088\]"):
        load(put(tmp_path, state), model="vgg16", args={}, layout="torchvision")
