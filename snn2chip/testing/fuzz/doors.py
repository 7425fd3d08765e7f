"""The doors: through which function every kind of input comes in, and how its inputs are damaged."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from snn2chip.testing.fuzz import (
    archives,
    hdf5,
    messages,
    nir_nodes,
    seeds,
    shard_files,
    tensor_files,
    toml_text,
    words,
)
from snn2chip.testing.fuzz.damage import Damage, any_of, bytes_damage

BLOCKS, ROWS = 2, 16
STEPS, NEURONS = 16, 2000
"""Programs up to these are run once."""


@attrs.frozen(kw_only=True)
class Door:
    """One way in: the ending its files have, sound inputs, damage to them, and what takes an input in.

    `seeds(folder)` may use the folder for its own files; `load(path)` must end in an object or in one of our errors.
    """

    name: str
    ending: str
    seeds: Callable[[Path], list[bytes]]
    damage: Damage
    load: Callable[[Path], object]


def _program(path: Path) -> object:
    """What a program that was read is asked next: its results, mapping, golden vectors, text, ranges, time."""
    from snn2chip.errors import InputError
    from snn2chip.inspection import inspect_file
    from snn2chip.ir import files
    from snn2chip.mapping.assign import META
    from snn2chip.mapping.saved import load_mapping
    from snn2chip.registry import get_backend

    program, golden = files.read(path)
    assert files.to_header(program)
    if program.steps <= STEPS and sum(soma.size for soma in program.somas) <= NEURONS:
        zeros = {n.name: np.full((program.steps, 1, *n.shape), min(max(0, n.lo), n.hi)) for n in program.inputs}
        get_backend("reference").run(program, zeros)
    if META in program.meta:
        load_mapping(program)
    if golden:
        from snn2chip.golden import read_golden

        read_golden(path)
    try:
        return inspect_file(path)
    except InputError:  # a program may be sound and have no schedule
        return program


def _checkpoint(path: Path) -> object:
    from snn2chip.checkpoint import load_model

    return load_model(path)


def _checkpoint_shown(path: Path) -> object:
    from snn2chip.inspection import inspect_file

    return inspect_file(path)


def _state_dict(path: Path) -> object:
    from snn2chip.checkpoint_tensors import read_tensors, strict_load

    tensors, _ = read_tensors(path)
    strict_load(seeds.small_model(), tensors, path=path)
    return tensors


def _foreign(path: Path) -> object:
    from snn2chip.errors import InputError
    from snn2chip.foreign import detect_layout, read_foreign

    file = read_foreign(path)
    try:
        return detect_layout(file.tensors)
    except InputError:  # tensors of nobody we know
        return file


def _resume(path: Path) -> object:
    from snn2chip.train.resume import read_resume

    return read_resume(path, seeds.IDENTITY)


def _samples(path: Path) -> object:
    from snn2chip.data.samples import read_samples

    return _read(read_samples(path))


def _read(samples: Any) -> list[Any]:
    """A few blocks of samples, as every verb reads them."""
    found = []
    for index, block in enumerate(samples.blocks(ROWS)):
        found.append(block)
        if index + 1 == BLOCKS:
            break
    return found


def _packed(reader: str) -> Callable[[Path], object]:
    def load(path: Path) -> object:
        from snn2chip.data import packed

        return _read(getattr(packed, reader)(path, "test", 2))

    return load


def _folder(reader: str, inside: str) -> Callable[[Path], object]:
    """The reader of a folder of files by class, of which the input is one file."""

    def load(path: Path) -> object:
        from snn2chip.data import folders

        top = path.parent / "set"
        place = top / inside
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        return _read(getattr(folders, reader)(top, "test", 2))

    return load


def _trace(path: Path) -> object:
    from snn2chip.checks.outside import read_trace

    return read_trace(seeds.small_program(), path)


def _nir(path: Path) -> object:
    from snn2chip.frontends.nir import import_nir
    from snn2chip.interop.nir_compile import holds_program, import_nir_program
    from snn2chip.interop.nir_look import look

    found = look(path)
    if holds_program(path):
        return import_nir_program(path)
    own = any("written by snn2chip" in note for note in found["notes"])
    fits = found["profiles"] or ["generic"]
    return import_nir(path, profile=None if own else fits[path.stat().st_size % len(fits)], steps=None if own else 3)


def _netx(path: Path) -> object:
    from snn2chip.frontends.netx import import_netx

    return import_netx(path, steps=3)


def _onnx(path: Path) -> object:
    from snn2chip.frontends.onnx import read_onnx

    return read_onnx(path)


def _recipe(path: Path) -> object:
    from snn2chip.train.recipe import load_recipe

    return load_recipe(path)


def _target(path: Path) -> object:
    from snn2chip.mapping.target_file import load_target

    return load_target(path)


def _widths(path: Path) -> object:
    from snn2chip.quantize.quant_file import read_quant

    return read_quant(path)


def _artifacts(path: Path) -> object:
    """A folder of artifacts whose manifest is the input: whether it may be replaced."""
    from snn2chip.artifacts import MANIFEST, check_replaceable

    folder = path.parent / "folder"
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_bytes(path.read_bytes())
    check_replaceable(folder)
    return folder


def _environment(path: Path) -> object:
    """Every variable that is read, with the input as its value."""
    from snn2chip.data import find_data, open_data
    from snn2chip.testing.seeds import seeds as chosen

    text = path.read_bytes().decode("utf-8", "surrogateescape").replace("\0", "")
    with variables({"SNN2CHIP_DATA": text, "SNN2CHIP_SEEDS": text, "ONEDNN_DEFAULT_FPMATH_MODE": text}):
        return _answers((lambda: find_data("mnist"), lambda: open_data("cifar10"), lambda: chosen(3)))


def _words(path: Path) -> object:
    """Words of the command line that are parsed by us."""
    from snn2chip_models.shipped import shipped

    from snn2chip.checkpoint import user_function
    from snn2chip.cli.compile_sources import parse_range
    from snn2chip.data import open_data
    from snn2chip.frontends.nir_profiles import OPTIONS, profile_of
    from snn2chip.quantize.spec import QuantSpec

    text = path.read_bytes().decode("utf-8", "surrogateescape")
    asked: list[Callable[[], object]] = [partial(profile_of, "sinabs", {key: text}) for key in OPTIONS]
    asked += [partial(ask, text) for ask in (parse_range, open_data, shipped, user_function)]
    return _answers([*asked, lambda: QuantSpec(weights=text)])


def _answers(asked: Iterable[Callable[[], object]]) -> list[object]:
    """What each of them gives; one that refuses does not keep the others from being asked."""
    from snn2chip.errors import InputError

    found: list[object] = []
    for ask in asked:
        try:
            found.append(ask())
        except InputError as error:
            found.append(error)
    return found


@contextmanager
def variables(given: Mapping[str, str]) -> Iterator[None]:
    """Environment variables set for a while."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _door(name: str, ending: str, made: Any, load: Callable[[Path], object], *ways: tuple[int, Damage]) -> Door:
    return Door(name=name, ending=ending, seeds=made, load=load, damage=any_of([(2, bytes_damage), *ways]))


_TENSORS = (
    (2, tensor_files.header_damage),
    (4, tensor_files.metadata_damage),
    (1, tensor_files.numbers_damage),
)
_SEALED = tuple((weight, tensor_files.resealed(damage)) for weight, damage in _TENSORS)
_PICKLE = ((2, archives.code_instead), (4, archives.pickle_damage))
_ZIP = ((4, archives.zip_damage), (1, archives.code_instead))

DOORS: Mapping[str, Door] = {
    door.name: door
    for door in (
        _door("s2c", ".s2c", seeds.programs, _program, *_SEALED),
        _door("checkpoint", ".safetensors", seeds.checkpoints, _checkpoint, *_TENSORS),
        _door("inspected", ".safetensors", seeds.checkpoints, _checkpoint_shown, *_TENSORS),
        _door("inspected-pt", ".pt", seeds.state_dicts, _checkpoint_shown, *_ZIP),
        _door("state-dict", ".pt", seeds.state_dicts, _state_dict, *_ZIP),
        _door(
            "old-pt", ".pt", seeds.old_state_dicts, _state_dict, (2, archives.code_instead), (4, archives.pickle_damage)
        ),
        _door("foreign", ".pth", seeds.foreign_files, _foreign, *_ZIP),
        _door("resume", ".resume", seeds.resume_files, _resume, *_ZIP),
        _door("samples", ".npz", seeds.sample_files, _samples, (4, archives.zip_damage)),
        _door("mnist", ".npz", seeds.mnist_files, _packed("greyscale"), (4, archives.zip_damage)),
        _door("cifar10", ".npz", seeds.cifar_files, _packed("mosaics"), (4, archives.zip_damage)),
        _door("nmnist", ".npz", seeds.event_files, _packed("events"), (4, archives.zip_damage)),
        _door("trace", ".npz", seeds.trace_files, _trace, (4, archives.zip_damage)),
        _door("shard", ".npz", shard_files.shard_files, shard_files.load_shard, *shard_files.WAYS),
        _door("idx", ".bytes", seeds.idx_files, _folder("idx", "t10k-images-idx3-ubyte")),
        _door("event-bytes", ".bytes", seeds.event_bytes, _folder("nmnist", "Test/0/a.bin")),
        _door("dvs", ".npz", seeds.dvs_files, _folder("dvs_npz", "a/a.npz"), (4, archives.zip_damage)),
        _door("pictures", ".png", seeds.pictures, _folder("pictures", "val/a/a.png"), (1, words.png_damage)),
        _door("nir", ".nir", seeds.nir_files, _nir, (3, hdf5.hdf5_damage), (3, nir_nodes.nir_damage)),
        _door("netx", ".net", seeds.netx_files, _netx, (3, hdf5.hdf5_damage)),
        _door("onnx", ".onnx", seeds.onnx_files, _onnx, (3, messages.onnx_damage)),
        _door("recipe", ".toml", seeds.recipes, _recipe, (4, toml_text.toml_damage)),
        _door("target", ".toml", seeds.targets, _target, (4, toml_text.toml_damage)),
        _door("widths", ".toml", seeds.widths, _widths, (4, toml_text.toml_damage)),
        _door("artifacts", ".json", seeds.manifests, _artifacts, (3, words.json_damage)),
        _door("environment", ".text", seeds.values, _environment, (4, words.word_damage)),
        _door("words", ".text", seeds.words, _words, (4, words.word_damage)),
    )
}
