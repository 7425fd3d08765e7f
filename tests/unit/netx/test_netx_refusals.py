"""Layers that cannot be imported: every reason at once, each naming its layer, nothing dropped in silence."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from snn2chip.errors import UnsupportedError
from snn2chip.frontends.netx import import_netx


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("dense_comp", "complex weights"),
        ("convT", "NetX cannot build it either"),
        ("unpool", "NetX cannot build it either"),
        ("concat", "NetX cannot build it either"),
        ("add", "unknown layer type, which NetX would drop in silence"),
        ("batchnorm", "unknown layer type"),
    ],
)
def test_layer_types(net, files, kind, reason):
    path = net(files.dense([[1, 2]]), {"type": kind, "shape": np.array([1])})
    with pytest.raises(UnsupportedError, match=rf"/layer/1 \({kind}\): .*{reason}.*--num-layers 1 .*imports"):
        import_netx(path)
    assert len(import_netx(path, num_layers=1).somas) == 1


def test_every_reason_is_listed(net, files):
    """Four layers, six reasons, one error; layers behind a refused one are looked at too."""
    path = net(
        files.dense([[300, 2]], neuron=files.neuron(refDelay=4)),
        {"type": "skip", "shape": np.array([1])},
        files.dense([[1]], neuron={"type": "RF", "vThMant": 3}),
        files.dense([[1]], bias=np.array([40000]), neuron=files.neuron(wgtExp=-2)),
    )
    with pytest.raises(UnsupportedError) as caught:
        import_netx(path)
    found = caught.value.breaches
    assert [text.split(": ")[1].split(" ")[0] for text in found] == [f"/layer/{i}" for i in (0, 0, 1, 2, 3, 3)]
    for text, words in zip(
        found,
        ("beyond 8 bits", "refDelay = 4", "unknown", "only CUBA, LOIHI and SDNN", "wgtExp = -2", "wraps it silently"),
        strict=True,
    ):
        assert words in text


@pytest.mark.parametrize("kind", ["RF", "RF_IZ", "ALIF", "loihi"])
def test_other_neurons(net, files, kind):
    with pytest.raises(UnsupportedError, match=rf"/layer/0 \(dense\): neurons of type '{kind}' cannot be imported"):
        import_netx(net(files.dense([[1]], neuron={"type": kind, "vThMant": 1})))


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"refDelay": 2}, "refDelay"), ({"wgtExp": 1}, "wgtExp"), ({"gradedSpike": True}, "gradedSpike")],
)
def test_fields_that_netx_reads_past(net, files, changes, field):
    """They change what was trained and NetX ignores them: refused by default, accepted by name, with a note."""
    path = net(files.dense([[1]], neuron=files.neuron(**changes)))
    with pytest.raises(UnsupportedError, match=rf"{field} = .*ignore=\('{field}',\)"):
        import_netx(path)
    program = import_netx(path, ignore=(field,))
    assert program.records[0]["node"] == "layer0"
    assert f"{field} = " in program.meta["notes"][0]


def test_harmless_values_of_those_fields(net, files):
    harmless = files.neuron(refDelay=1, wgtExp=0, gradedSpike=False, theta=5120, tauRho=0.1, scaleRho=1.0)
    assert import_netx(net(files.dense([[1]], neuron=harmless))).meta["notes"] == []


def test_conv_delay_is_not_ignored(net, files):
    layers = (files.inputs((1, 2, 2)), files.conv(np.ones((1, 1, 1, 1)), (1, 2, 2), delay=np.array([0, 2, 3, 0])))
    with pytest.raises(UnsupportedError, match=r"delay = up to 3, but conv layers have no axonal delay in NetX"):
        import_netx(net(*layers))
    assert import_netx(net(*layers), ignore=("delay",)).somas[0].name == "layer1"


def test_message_bits(net, files):
    with pytest.raises(UnsupportedError, match="messageBits asks for graded spikes"):
        import_netx(net(files.dense([[1]], neuron=files.neuron(messageBits=8))))


def test_wrapped_bias_is_refused_or_taken_from_the_file(net, files):
    """40000 does not fit the 16 bits that NetX stores; 40000 * 64 does fit a 24-bit potential."""
    path = net(files.dense([[1]], bias=np.array([40000])))
    with pytest.raises(UnsupportedError, match="bias 40000 is beyond the 32767 that fits"):
        import_netx(path)
    assert import_netx(path, numbers="file")["layer0"].bias.tolist() == [[64 * 40000]]
    with pytest.raises(UnsupportedError, match="bias -131072 is beyond the 131071"):
        import_netx(net(files.dense([[1]], bias=np.array([-131072]))), numbers="file")


def test_complex_weights(net, files):
    path = net({**files.dense([[1]]), "weight": {"real": np.ones((1, 1)), "imag": np.ones((1, 1))}})
    with pytest.raises(UnsupportedError, match=r"weight is a group \(imag, real\); complex weights"):
        import_netx(path)


def test_groups_beyond_eight_bits(net, files):
    """Lava's conv keeps groups in int8 and gives zeros for 128; numbers='file' means what the file says."""
    layers = (files.inputs((128, 1, 1)), files.conv(np.ones((128, 1, 1, 1)), (128, 1, 1), groups=128))
    with pytest.raises(UnsupportedError, match="8 bits; one here is over 127"):
        import_netx(net(*layers))
    assert import_netx(net(*layers), numbers="file")["layer1.weight"].groups == 128


def test_conv_weights_without_an_8_bit_form(net, files):
    layers = (files.inputs((1, 1, 1)), files.conv(np.array([[[[1001]]], [[[-1000]]]]), (2, 1, 1)))
    with pytest.raises(UnsupportedError, match=r"weights -1000..1001 do not fit 8 bits, a sign and an exponent"):
        import_netx(net(*layers))


def test_conv_first_needs_a_shape(net, files):
    path = net(files.conv(np.ones((1, 2, 1, 1)), (1, 3, 3)))
    with pytest.raises(UnsupportedError, match="pass --netx-input-shape"):
        import_netx(path)
    assert import_netx(path, input_shape=(2, 3, 3))["input"].shape == (2, 3, 3)


def test_delays_beyond_62_in_file_mode(net, files):
    with pytest.raises(UnsupportedError, match="delay 80 is beyond 62"):
        import_netx(net(files.dense([[1, 2]], delay=np.array([80, 3]))), numbers="file")


def test_second_input_layer(net, files):
    with pytest.raises(UnsupportedError, match=r"/layer/1 \(input\): an input layer after the first"):
        import_netx(net(files.dense([[1]]), files.inputs((1,))))


def test_wrap_of_the_current_is_noted(net, files):
    """2^23 / (64 * 255) = 514.01...: 515 full inputs can reach beyond 24 bits in one step, 514 cannot."""
    at_once = files.neuron(iDecay=4096)
    assert import_netx(net(files.dense(np.full((1, 514), 255), neuron=at_once))).meta["notes"] == []
    notes = import_netx(net(files.dense(np.full((1, 515), 255), neuron=at_once))).meta["notes"]
    assert notes == [
        f"/layer/0: |u| may reach {64 * 255 * 515} and wrap at 24 bits; Lava wraps only once and keeps 2^23 itself"
    ]


def test_all_zero_weights(net, files):
    """NetX itself stops on them; a silent layer is well defined."""
    program = import_netx(net(files.dense(np.zeros((2, 3)))))
    assert "OverflowError" in program.meta["notes"][0]
    assert program["layer0.weight"].weight.tolist() == [[0] * 3] * 2


def test_fields_that_nothing_knows(net, files):
    """A mask, a field of the neurons: refused and ignored by name; what is beside the layers is left alone."""
    path = net(files.dense([[5]], mask=np.zeros((1, 1)), neuron=files.neuron(noise=5, foo=3)))
    with h5py.File(path, "a") as file:
        file["extra/data"] = np.arange(3)
    with pytest.raises(UnsupportedError) as caught:
        import_netx(path)
    places = [text.split(": ", 1)[1].split(" is none")[0] for text in caught.value.breaches]
    assert places == [f"/layer/0 (dense): the field {key}" for key in ("mask", "neuron/foo", "neuron/noise")]
    assert "--netx-ignore mask (ignore=('mask',))" in caught.value.breaches[0]
    with pytest.raises(UnsupportedError, match="the field neuron/noise"):
        import_netx(path, ignore=("mask", "neuron/foo"))
    notes = import_netx(path, ignore=("mask", "neuron/foo", "neuron/noise")).meta["notes"]
    assert [note.split()[1] for note in notes] == ["mask", "neuron/foo", "neuron/noise"]


def test_fields_that_lava_dl_writes_and_nothing_reads(net, files):
    """What slayer's exporters and older files of lava-dl hold besides is no reason to stop."""
    neuron = files.neuron(theta=1.25, tauRho=1.0, scaleRho=1.0, refDelay=1, wgtExp=0, gradedSpike=False, weight_exp=0.0)
    path = net(
        files.inputs((2, 3, 3)),
        files.conv(
            np.ones((1, 2, 1, 1)), (1, 3, 3), neuron=neuron, inChannels=2, outChannels=1, kernelSize=np.array([1, 1])
        ),
        files.flatten(),
        files.dense(np.ones((2, 9)), neuron=neuron, inFeatures=9, outFeatures=2),
    )
    assert import_netx(path).meta["notes"] == []


@pytest.mark.parametrize("value", [1, -2])
@pytest.mark.parametrize("of_changes", [False, True])
def test_the_exponent_of_a_norm(net, files, value, of_changes):
    """slayer's WgtScaleBatchNorm notes a power of two that NetX does not apply."""
    neuron = files.delta(3, weight_exp=value) if of_changes else files.neuron(weight_exp=value)
    path = net(files.dense([[5]], neuron=neuron))
    with pytest.raises(UnsupportedError, match=f"weight_exp = {value}, but NetX does not apply.*--netx-ignore"):
        import_netx(path)
    assert "weight_exp" in import_netx(path, ignore=("weight_exp",)).meta["notes"][0]
