"""Where `snn2chip compile` starts from: a checkpoint, X.nir, X.net, X.onnx or a program; the flags that each takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import attrs

from snn2chip.cli.import_options import ImportFlags
from snn2chip.errors import InputError
from snn2chip.shards.current import sharing

if TYPE_CHECKING:
    from snn2chip.ir.program import Program
    from snn2chip.quantize.spec import QuantSpec
    from snn2chip.shards.workers import Workers

Keep = Callable[[AbstractContextManager[str]], str]
ONNX = ".onnx"
INTEGERS = (".net", ".s2c")
NIR_TAKES = ("--data", "--weights", "--quant", "--rounding", "--input-range", "--readout")


@attrs.frozen(kw_only=True)
class Wanted:
    """The flags of the verb: the network's, the quantizer's, those of files of other tools, and of a conversion."""

    model: str | None
    data: str | None
    weights: str
    quant: Path | None
    rounding: str
    target: str
    steps: int | None
    input_range: str | None
    choices: dict[str, Any]
    """Of `Choices`, which is made later: it needs torch."""
    imports: ImportFlags
    method: str | None
    option: list[str] | None
    transforms: list[str] | None

    def set(self) -> list[str]:
        """Flags that a network of floats takes, and that are not as they are without being given."""
        given: dict[str, Any] = {
            "--model": self.model,
            "--data": self.data,
            "--weights": self.weights,
            "--quant": self.quant,
            "--rounding": self.rounding,
            "--input-range": self.input_range,
            **{f"--{name.replace('_', '-')}": value for name, value in self.choices.items()},
        }
        plain = {"--weights": "keep", "--rounding": "nearest", "--payload-bits": 8, "--input-coding": "direct"}
        plain |= {"--strict": False, "--parallel": "as-is", "--readout": "auto"}
        return [name for name, value in given.items() if value != plain.get(name)]

    def how(self) -> dict[str, Any]:
        """Options of both compilers of float networks; InputError where flags and the TOML file contradict."""
        spec = spec_of(self.quant, weights=self.weights, rounding=self.rounding)
        return {
            "weights": spec.weights,
            "overrides": spec.overrides,
            "bias_correction": spec.bias_correction,
            "rounding": spec.rounding,
            "target": self.target,
            "data": self.data,
            "input_range": None if self.input_range is None else parse_range(self.input_range),
        }


def refuse_unfit(source: Path, wanted: Wanted) -> None:
    """InputError naming every flag that this kind of file does not take."""
    found = wanted.imports.misplaced(source)
    if source.suffix != ONNX and (wanted.method is not None or wanted.option):
        found.append("--method and --option are for X.onnx files; a checkpoint goes through convert")
    if source.suffix == ONNX and wanted.model is not None:
        found.append("holds its own network; leave out --model")
    if source.suffix in INTEGERS and (unfit := wanted.set()):
        found.append(f"a {source.suffix} file holds integers already; leave out {', '.join(unfit)}")
    if source.suffix == ".s2c" and (not wanted.transforms or wanted.steps is not None):
        found.append("is a compiled program; name what to do with it, and only that: --transform NAME")
    if found:
        raise InputError(f"{source}: " + "; ".join(found))


def program_of(source: Path, wanted: Wanted, *, shared: Workers | None, keep: Keep) -> tuple[Program, Path | None]:
    """The program, and the file of the float network that it was made of, if any; `keep` holds what is converted."""
    if source.suffix == ".s2c":
        from snn2chip.api import load

        return load(source), None
    if source.suffix == ".net":
        return from_netx(source, wanted), None
    if source.suffix == ".nir":
        return from_nir(source, wanted, shared=shared), None
    if source.suffix == ONNX:
        network = spiking(source, wanted, folder=Path(keep(TemporaryDirectory(prefix="snn2chip-onnx-"))))
        return from_checkpoint(network, attrs.evolve(wanted, steps=None), shared=shared), network
    return from_checkpoint(source, wanted, shared=shared), source


def from_checkpoint(path: Path, wanted: Wanted, *, shared: Workers | None) -> Program:
    """A model checkpoint, or the state_dict of a named model, as a program."""
    from snn2chip.checkpoint_compile import compile_checkpoint
    from snn2chip.quantize.choices import Choices

    choices, how = Choices(**wanted.choices), wanted.how()
    with sharing(shared):
        return compile_checkpoint(path, model=wanted.model, steps=wanted.steps, choices=choices, **how)


def from_netx(path: Path, wanted: Wanted) -> Program:
    """A lava-dl `.net` file as a program for the target."""
    from snn2chip.frontends.netx import import_netx
    from snn2chip.mapping.capabilities import fitted
    from snn2chip.mapping.target_file import load_target

    chip = load_target(wanted.target)
    return fitted(import_netx(path, steps=wanted.steps, **wanted.imports.netx()), chip)


def from_nir(path: Path, wanted: Wanted, *, shared: Workers | None) -> Program:
    """A `.nir` file as a program: our own as it is, others by their profile."""
    from snn2chip.interop.nir_compile import compile_nir, holds_program, import_nir_program, parsed_options
    from snn2chip.mapping.capabilities import fitted
    from snn2chip.mapping.target_file import load_target

    given, imports = wanted.set(), wanted.imports
    if unfit := [name for name in given if name not in NIR_TAKES]:
        raise InputError(f"{path}: leave out {', '.join(unfit)}")
    if imports.nir_profile is None and holds_program(path):
        given += (["--steps"] if wanted.steps else []) + (["--nir-option"] if imports.nir_options else [])
        if given:
            raise InputError(f"{path}: holds an integer program of snn2chip; leave out {', '.join(given)}")
        return fitted(import_nir_program(path), load_target(wanted.target))
    chosen = parsed_options(imports.nir_options)
    how = {**wanted.how(), "read": None if wanted.choices["readout"] == "auto" else wanted.choices["readout"]}
    with sharing(shared):
        return compile_nir(path, profile=imports.nir_profile, options=chosen, steps=wanted.steps, **how)


def spiking(source: Path, wanted: Wanted, *, folder: Path) -> Path:
    """The spiking checkpoint that `snn2chip convert` makes of an ordinary network, in `folder`."""
    from snn2chip.cli.convert import converted, show

    made = folder / f"{source.stem}.safetensors"
    method, texts = wanted.method or "parallel", list(wanted.option or ())
    show(converted(source, made, method=method, steps=wanted.steps, texts=texts, data=wanted.data))
    return made


def spec_of(quant: Path | None, *, weights: str, rounding: str) -> QuantSpec:
    """Widths and rounding of a TOML file and of the flags; InputError where they contradict each other."""
    from snn2chip.quantize.quant_file import read_quant
    from snn2chip.quantize.spec import QuantSpec

    if quant is None:
        return QuantSpec(weights=weights, rounding=rounding)
    spec = read_quant(quant)
    if weights not in ("keep", spec.weights):
        raise InputError(f"--weights {weights} and {quant} (weights = {spec.weights}) contradict each other")
    return spec if rounding == "nearest" else attrs.evolve(spec, rounding=rounding)


def parse_range(text: str) -> tuple[float, float]:
    """`LO,HI` as two numbers; InputError for anything else."""
    parts = text.split(",")
    try:
        lo, hi = (float(part) for part in parts)
    except ValueError:
        raise InputError(f"--input-range {text!r}: expected two numbers, as in --input-range=-4,4") from None
    return lo, hi
