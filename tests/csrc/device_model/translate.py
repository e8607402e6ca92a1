"""CUDA C++ as C++ that g++ compiles: launches, shared memory and inline assembly become calls of the model.

Nothing else changes, and no line moves. An assembly statement is recognised by its whole text, operands' constraints
included, and keeps its operands; one that is not in the table below is an error, so that the model can never run
something other than what the source says.

Usage: translate.py CSRC TARGET
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# PTX with white space collapsed; constraints of outputs, inputs and "memory"; the model's function of these operands.
INSTRUCTIONS = {
    ("", "", "", True): "CompilerFence",
    ("", "+f", "", True): "Pin",
    ("mbarrier.init.shared::cta.b64 [%0], %1;", "", "r r", True): "MbarrierInit",
    ("fence.mbarrier_init.release.cluster;", "", "", True): "FenceMbarrierInit",
    ("mbarrier.arrive.shared::cta.b64 _, [%0];", "", "r", True): "MbarrierArrive",
    ("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;", "", "r r", True): "MbarrierArriveExpectTx",
    (
        "{ .reg .pred done; again: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @done bra finished; "
        "bra again; finished: }",
        "", "r r", True,
    ): "MbarrierWaitParity",
    (
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];",
        "", "r l r r r", True,
    ): "BulkTensorCopy2d",
    ("fence.proxy.async.shared::cta;", "", "", True): "FenceProxyAsync",
    ("wgmma.fence.sync.aligned;", "", "", True): "WgmmaFence",
    ("wgmma.commit_group.sync.aligned;", "", "", True): "WgmmaCommitGroup",
    ("wgmma.wait_group.sync.aligned %0;", "", "n", True): "WgmmaWaitGroup",
    (
        "{ .reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0..%127}, %128, %129, p, 1, 1, %131, %132; }",
        "+f*128", "l l r n n", False,
    ): "WgmmaBf16",
    (
        "{ .reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.f16.f16 "
        "{%0..%127}, %128, %129, p, 1, 1, %131, %132; }",
        "+f*128", "l l r n n", False,
    ): "WgmmaF16",
    (
        "{ .reg .pred p; setp.ne.b32 p, %130, 0; wgmma.mma_async.sync.aligned.m64n256k8.f32.tf32.tf32 "
        "{%0..%127}, %128, %129, p, 1, 1; }",
        "+f*128", "l l r", False,
    ): "WgmmaTf32",
    ("setmaxnreg.dec.sync.aligned.u32 %0;", "", "n", False): "SetMaxRegisters",
    ("setmaxnreg.inc.sync.aligned.u32 %0;", "", "n", False): "SetMaxRegisters",
    ("bar.sync %0, %1;", "", "r n", True): "BarSync",
    ("bar.sync 1, %0;", "", "n", True): "BarSync1",
    (
        "{ .reg .pred p, q; setp.ne.s32 p, %1, 0; bar.red.or.pred q, %2, %3, p; selp.s32 %0, 1, 0, q; }",
        "=r", "r r n", True,
    ): "BarRedOr",
    ("cp.async.cg.shared.global [%0], [%1], 16, %2;", "", "r l r", True): "CpAsync16",
    ("cp.async.commit_group; cp.async.wait_group 0;", "", "", True): "CpAsyncWaitAll",
    ("cvt.f32.f16 %0, %1;", "=f", "h", False): "CvtF32F16",
    ("ex2.approx.ftz.f32 %0, %1;", "=f", "f", False): "Ex2ApproxFtz",
    ("cvt.rn.bf16x2.f32 %0, %1, %2;", "=r", "f f", False): "CvtRnBf16x2",
    ("cvt.rn.f16x2.f32 %0, %1, %2;", "=r", "f f", False): "CvtRnF16x2",
    ("prefetch.global.L2 [%0];", "", "l", False): "PrefetchGlobal",
}  # fmt: skip

# The one line of host code that is changed: the pieces of a workspace get memory between them that nobody may touch.
SUBSTITUTIONS = {
    "common/cuda/runtime.h": (
        "used_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;",
        "used_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256 + 256; "
        "::device_model::Forbid(piece, static_cast<size_t>(count) * sizeof(T), base_, used_);",
    )
}


class TranslationError(Exception):
    pass


@dataclass(frozen=True)
class Operand:
    constraint: str
    expression: str


def skip_string(text: str, at: int) -> int:
    """The place after the literal that begins at `at`."""
    end = at + 1
    while text[end] != text[at]:
        end += 2 if text[end] == "\\" else 1
    return end + 1


def closing(text: str, opening: int) -> int:
    """Where the parenthesis that opens at `opening` is closed; literals are skipped."""
    depth, at = 0, opening
    while True:
        if text[at] in "\"'":
            at = skip_string(text, at)
            continue
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1


def split_outside(text: str, separator: str) -> list[str]:
    """Parts between separators that stand outside brackets and literals."""
    parts, depth, start, at = [], 0, 0, 0
    while at < len(text):
        if text[at] in "\"'":
            at = skip_string(text, at)
            continue
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[at], 0)
        if depth == 0 and text[at] == separator:
            parts.append(text[start:at])
            start = at + 1
        at += 1
    return [*parts, text[start:]]


def macros_of(text: str) -> dict[str, tuple[str | None, str]]:
    """Name -> (parameter or none, body) of macros that assembly may be written with."""
    defined = re.findall(r"^#define (\w+)(?:\((\w+)\))?((?:[^\n]*\\\n)*[^\n]*)", text, re.MULTILINE)
    return {name: (parameter or None, body.replace("\\\n", " ")) for name, parameter, body in defined}


def expand(text: str, macros: dict[str, tuple[str | None, str]]) -> str:
    def replaced(match: re.Match[str]) -> str:
        parameter, body = macros[match[1]]
        if parameter is None:
            return body + (match[2] or "")
        argument = (match[2] or "()")[1:-1]
        return re.sub(rf"\b{parameter}\b", argument, body)

    known = [name for name in macros if re.search(rf"\b{name}\b", text)]
    return re.sub(rf"\b({'|'.join(known)})\b(\([^()]*\))?", replaced, text) if known else text


def template_of(text: str) -> str:
    """The text of adjacent string literals, white space collapsed, a list of all accumulators abbreviated."""
    literals = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    if re.sub(r'"(?:[^"\\]|\\.)*"|\s', "", text):
        raise TranslationError(f"assembly that is more than string literals: {text.strip()}")
    joined = "".join(literals).replace("\\n", "\n").replace("\\t", "\t")
    registers = ", ".join(f"%{i}" for i in range(128))
    collapsed = re.sub(r"\s+", " ", joined).strip()
    return collapsed.replace("{" + registers + "}", "{%0..%127}")


def operands_of(text: str) -> list[Operand]:
    found = []
    for part in split_outside(text, ","):
        if not part.strip():
            continue
        match = re.fullmatch(r'\s*"([^"]+)"\s*\((.*)\)\s*', part, re.DOTALL)
        if match is None:
            raise TranslationError(f"an operand that is not understood: {part.strip()}")
        found.append(Operand(match[1], match[2].strip()))
    return found


def merged(operands: list[Operand]) -> list[Operand]:
    """128 neighbouring elements of one array are passed as the array."""
    match = re.fullmatch(r"(\w+)\[0\]", operands[0].expression) if len(operands) == 128 else None
    wanted = [Operand("+f", f"{match[1]}[{i}]") for i in range(128)] if match else None
    return [Operand("+f*128", match[1])] if match and operands == wanted else operands


def assembly_call(statement: str, macros: dict[str, tuple[str | None, str]]) -> str:
    """What stands for the statement, whose text is that between asm's parentheses."""
    sections = split_outside(expand(statement, macros), ":")
    template = template_of(sections[0])
    outputs, inputs = (merged(operands_of(s)) for s in [*sections, "", ""][1:3])
    clobbers = [c.strip() for c in split_outside(sections[3], ",")] if len(sections) > 3 else []
    if clobbers not in ([], ['"memory"']) or len(sections) > 4:
        raise TranslationError(f"assembly with other clobbers than memory: {statement.strip()}")
    constraints = (" ".join(operand.constraint for operand in operands) for operands in (outputs, inputs))
    key = (template, *constraints, bool(clobbers))
    if key not in INSTRUCTIONS:
        raise TranslationError(f"assembly that the device model does not know: {key}")
    return f"::device_model::ptx::{INSTRUCTIONS[key]}({', '.join(o.expression for o in (*outputs, *inputs))})"


def code_spans(text: str, pattern: str) -> Iterator[re.Match[str]]:
    """Matches outside comments."""
    for match in re.finditer(pattern, text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        if "//" not in line:
            yield match


def with_lines_of(replacement: str, original: str) -> str:
    return replacement + "\n" * (original.count("\n") - replacement.count("\n"))


def translate_assembly(text: str) -> str:
    macros, pieces, done = macros_of(text), [], 0
    for match in code_spans(text, r"\basm(?:\s+volatile)?\s*\("):
        end = closing(text, match.end() - 1)
        if match.start() < done:
            continue
        call = assembly_call(text[match.end() : end], macros)
        pieces += [text[done : match.start()], with_lines_of(call, text[match.start() : end + 1])]
        done = end + 1
    return "".join([*pieces, text[done:]])


def translate_shared_memory(text: str) -> str:
    dynamic = r"extern __shared__ (?:__align__\(16\) )?unsigned char (\w+)\[\];"
    text = re.sub(dynamic, r"unsigned char* const \1 = ::device_model::DynamicShared();", text)
    static = r"__shared__ ([\w:]+) (\w+)((?:\[\w+\])?);"
    return re.sub(
        static, r"static const char key_of_\2 = 0; auto& \2 = ::device_model::StaticShared<\1\3>(&key_of_\2);", text
    )


def kernel_start(text: str, launch: int) -> int:
    """Where the name of the kernel begins that stands before `<<<`, its template arguments included."""
    at = launch
    if text[at - 1] == ">":
        depth = 0
        while True:
            at -= 1
            depth += {">": 1, "<": -1}.get(text[at], 0)
            if depth == 0:
                break
    name = re.search(r"[\w:]+$", text[:at])
    if name is None:
        raise TranslationError(f"a launch that is not understood: {text[launch - 40 : launch + 40]}")
    return name.start()


def translate_launches(text: str) -> str:
    while (at := text.find("<<<")) >= 0:
        begin, configured = kernel_start(text, at), text.index(">>>", at)
        end = closing(text, configured + 3)
        kernel, configuration = text[begin:at], text[at + 3 : configured]
        # A kernel is asked for its attributes only where it wants more shared memory than any may have.
        without = split_outside(configuration, ",")[2].strip() == "0"
        key = "nullptr" if without else f"reinterpret_cast<const void*>(+{kernel})"
        call = f"{kernel}{text[configured + 3 : end + 1]}"
        launch = f'::device_model::Launch({key}, "{kernel}", {configuration}, [&] {{ {call}; }})'
        text = text[:begin] + launch + text[end + 1 :]
    return text


def translate(name: str, text: str) -> str:
    if name in SUBSTITUTIONS:
        before, after = SUBSTITUTIONS[name]
        if text.count(before) != 1:
            raise TranslationError(f"{name} no longer has the line: {before}")
        text = text.replace(before, after)
    try:
        text = translate_launches(translate_shared_memory(translate_assembly(text)))
    except TranslationError as error:
        raise TranslationError(f"{name}: {error}") from None
    for match in code_spans(text, r"\basm\b|__shared__|<<<"):
        raise TranslationError(f"{name}: {text[match.start() : match.start() + 60]!r} is not understood")
    return text


def is_of_the_device(path: Path) -> bool:
    return path.suffix in (".cu", ".cuh", ".h") and "cpu" not in path.parts


def translate_tree(source: Path, target: Path) -> list[Path]:
    """Translates what has changed; the names of the .cu files, from `source`."""
    kept = {path.relative_to(source) for path in source.rglob("*") if is_of_the_device(path)}
    for name in sorted(kept):
        text = f'#line 1 "{source / name}"\n' + translate(name.as_posix(), (source / name).read_text())
        to = target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.exists() or to.read_text() != text:
            to.write_text(text)
    for stale in {path.relative_to(target) for path in target.rglob("*") if path.is_file()} - kept:
        (target / stale).unlink()
    return sorted(name for name in kept if name.suffix == ".cu")


if __name__ == "__main__":
    translate_tree(Path(sys.argv[1]).resolve(), Path(sys.argv[2]))
