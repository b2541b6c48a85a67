"""Launching: what is checked, in which words, and what is computed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import anyio
import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery import gpu
from rookery._core._parking import current_loop
from rookery.gpu import _compiler, _opencl, _source
from rookery.gpu._arguments import parse, work_sizes

from .support import DEVICE, KERNELS, Gate

# --- arguments --------------------------------------------------------------------------------------


async def test_a_kernel_knows_its_signature(program: gpu.Program) -> None:
    """As the compiler saw it."""
    assert program.kernel_names == ("add", "increment", "fill", "everything", "group_size")
    kernel = program.kernel("everything")
    assert str(kernel.signature) == (
        "everything(float f, int i, uchar u, double d, const float4* v, uint* scratch)".replace("uint*", "float*")
    )
    assert [one.kind for one in kernel.signature.parameters] == ["scalar"] * 4 + ["buffer", "local"]


async def test_a_wrong_number_of_arguments_is_a_type_error(device: gpu.Device, program: gpu.Program) -> None:
    """It shows the signature."""
    with pytest.raises(
        TypeError, match=r"kernel 'fill' takes 2 arguments, got 1: it is fill.*write `await fill\(x, value\)`"
    ):
        await program.kernel("fill")(await device.empty(4))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({0: "1"}, TypeError, r"argument 'f' \(float f\) of kernel 'everything' needs a number, got str '1'"),
        ({0: True}, TypeError, r"needs a number, got bool True"),
        ({0: 1e39}, ValueError, r"argument 'f' .* holds -3\.4\d+e\+38 to 3\.4\d+e\+38, got 1e\+39"),
        ({1: 1.5}, TypeError, r"argument 'i' \(int i\) .* needs a whole number, got float 1\.5: pass 10, or np\.int32"),
        ({1: 2**31}, ValueError, r"argument 'i' .* holds -2147483648 to 2147483647, got 2147483648"),
        ({2: -1}, ValueError, r"argument 'u' \(uchar u\) .* holds 0 to 255, got -1"),
        ({3: np.zeros(2)}, TypeError, r"argument 'd' \(double d\) .* needs a number, got ndarray"),
        ({4: np.zeros(4, np.float32)}, TypeError, r"argument 'v' \(const float4\* v\) .* needs a buffer, got ndarray"),
        ({5: 64}, TypeError, r"argument 'scratch' .* needs local memory, got int 64: pass gpu\.LocalMemory\(nbytes\)"),
        (
            {5: gpu.LocalMemory(1 << 40)},
            ValueError,
            r"'everything' got 1,099,511,627,776 bytes of local memory, and the",
        ),
    ],
)
async def test_a_wrong_argument_is_named(
    device: gpu.Device, program: gpu.Program, change: dict[int, object], kind: type[Exception], message: str
) -> None:
    """With its value, why it is wrong, and what to write instead."""
    good = [1, 2, 3, 4, await device.upload(np.zeros(8, np.float32)), gpu.LocalMemory(64)]
    arguments = [change.get(index, argument) for index, argument in enumerate(good)]
    with pytest.raises(kind, match=message):
        await program.kernel("everything")(*arguments)  # type: ignore[arg-type]
    await program.kernel("everything")(*good)  # type: ignore[arg-type]
    assert device.statistics().kernels["everything"].launched == 1


async def test_numbers_of_every_kind_are_taken(device: gpu.Device, program: gpu.Program) -> None:
    """Python's and numpy's, whole ones for floating parameters, infinity and NaN."""
    fill = program.kernel("fill")
    out = await device.empty(4)
    for value in [2, np.float64(0.5), np.int8(3), np.float16(1), float("inf"), -0.0]:
        await fill(out, value)
        assert (await out.read()).tolist() == [value] * 4
    await fill(out, float("nan"))
    assert np.isnan(await out.read()).all()


async def test_a_buffer_of_another_dtype_or_size_is_refused(device: gpu.Device, program: gpu.Program) -> None:
    """pyopencl takes both silently."""
    with pytest.raises(TypeError, match=r"argument 'x' \(float\* x\) .* needs a buffer of float32, got one of float64"):
        await program.kernel("increment")(await device.empty(4, np.float64))
    six = await device.upload(np.zeros(6, np.float32))
    with pytest.raises(
        ValueError, match=r"argument 'v' .* needs a whole number of float4, 16 bytes each, got .* 24 bytes"
    ):
        await program.kernel("everything")(1, 1, 1, 1, six, gpu.LocalMemory(4))


async def test_a_buffer_that_was_never_written_cannot_be_read_by_a_kernel(
    device: gpu.Device, program: gpu.Program
) -> None:
    """It would compute with whatever was in that memory before."""
    out = await device.empty(4)
    with pytest.raises(gpu.NoData, match=r"argument 'a' \(const float\* a\) .* `await buffer\.write\(array\)` first"):
        await program.kernel("add")(out, out, out, 4)


async def test_released_and_foreign_buffers_are_refused(device: gpu.Device, program: gpu.Program) -> None:
    """Their memory is somebody else's."""
    increment = program.kernel("increment")
    buffer = await device.upload(np.zeros(4, np.float32))
    device.pool.release(buffer)
    with pytest.raises(gpu.BufferReleased, match=r"argument 'x' .* got <UnifiedBuffer float32 \(4,\), released>"):
        await increment(buffer)
    async with gpu.open_device(DEVICE) as other:
        foreign = await other.upload(np.zeros(4, np.float32))
        with pytest.raises(
            ValueError, match=r"argument 'x' .* another `open_device\(\)` of .*`await device\.copy\(buffer\)`"
        ):
            await increment(foreign)


async def test_other_queues_are_refused(device: gpu.Device, program: gpu.Program) -> None:
    """What is no queue, and a queue of another device."""
    increment, buffer = program.kernel("increment"), await device.upload(np.zeros(4, np.float32))
    with pytest.raises(TypeError, match=r"queue of kernel 'increment' is a gpu\.Queue, got int 0: open one with"):
        await increment(buffer, queue=0)  # type: ignore[arg-type]
    async with gpu.open_device(DEVICE) as other:
        with pytest.raises(
            ValueError, match=r"compiled by another `open_device\(\)` than 'queue 0 of .*' is of: open a"
        ):
            await increment(buffer, queue=other.queue)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (KERNELS, "-DN=3 -DM=4", r"options are a list of texts, got '-DN=3 -DM=4': write \['-DN=3', '-DM=4'\]"),
        (KERNELS, [3], r"options are a list of texts, got \[3\]: write"),
        (KERNELS, None, r"options are a list of texts, got None: write"),
        (5, (), r"build takes OpenCL C as text, or the path of a file, got 5: write"),
    ],
)
async def test_what_cannot_be_compiled_is_a_type_error(
    device: gpu.Device, source: object, options: object, message: str
) -> None:
    """Before the compiler sees it: it would take a text for a list of letters."""
    with pytest.raises(gpu.ArgumentTypeError, match=message):
        await device.build(source, options)  # type: ignore[arg-type]


async def test_images_and_vectors_by_value_are_refused_when_the_kernel_is_made(device: gpu.Device) -> None:
    """Not at the first launch."""
    program = await device.build("kernel void f(float2 v) {}")
    with pytest.raises(TypeError, match=r"kernel 'f' takes float2 'v' by value, and only plain numbers"):
        program.kernel("f")


async def test_pointers_to_a_type_of_ones_own_take_any_buffer(device: gpu.Device) -> None:
    """Numpy does not know the struct, and OpenCL does not tell what a typedef is; other pointers take no struct."""
    source = "typedef struct {int a; float b;} S; kernel void f(global S *s) {s[0].a += 1;}"
    buffer = await device.upload(np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]))
    await (await device.kernel(source, "f"))(buffer, size=1)
    assert (await buffer.read()).tolist() == [(2, 2.0)]
    x = await device.upload(np.ones(1, np.float32))
    await (await device.kernel("typedef float real; kernel void f(global real *x) {x[0] += 1;}", "f"))(x)
    assert await x.read() == 2
    with pytest.raises(gpu.ArgumentTypeError, match=r"needs a buffer of float32, got one of \[\('a', '<i4'\)"):
        await (await device.kernel(KERNELS, "increment"))(buffer)


async def test_const_buffers_stay_as_they_are(device: gpu.Device, program: gpu.Program) -> None:
    """What a launch may write is newer on the device afterwards, and nothing else is."""
    a = await device.upload(np.ones(4, np.float32))
    out = await device.empty(4)
    await program.kernel("add")(a, a, out, 4)
    assert (a.state, out.state) == (gpu.BufferState.SYNCHRONIZED, gpu.BufferState.DEVICE_ONLY)


@given(st.integers(), st.sampled_from(["char", "uchar", "short", "ushort", "int", "uint", "long", "ulong"]))
def test_whole_numbers_pass_exactly_if_numpy_holds_them(number: int, type_name: str) -> None:
    """The limits are those of the type."""
    signature = parse("k", [("x", type_name, False, "private")])
    (parameter,) = signature.parameters
    limits = np.iinfo(parameter.dtype)  # type: ignore[arg-type]
    if limits.min <= number <= limits.max:
        assert signature.scalar(parameter, number) == number
    else:
        with pytest.raises(gpu.ArgumentValueError):
            signature.scalar(parameter, number)


# --- sizes ------------------------------------------------------------------------------------------


@given(
    st.lists(st.integers(1, 10_000), min_size=1, max_size=3).map(tuple),
    st.integers(0, 10).map(lambda power: 1 << power),
    st.integers(1, 5000),
)
def test_without_a_local_size_nothing_is_rounded(size: tuple[int, ...], preferred: int, largest: int) -> None:
    """An unguarded kernel would write out of bounds. Few local sizes are used, since each may be compiled for."""
    exact, local = work_sizes("k", size, None, preferred, largest)
    assert exact == size
    assert size[0] % local[0] == 0
    assert local[0].bit_count() == 1
    assert local[0] <= min(preferred, largest)
    assert set(local[1:]) <= {1}


@given(st.integers(1, 10_000), st.integers(1, 256))
def test_with_a_local_size_the_global_one_is_padded(size: int, local: int) -> None:
    """Up to whole groups, and no further."""
    (padded,), group = work_sizes("k", (size,), (local,), 64, 256)
    assert group == (local,)
    assert padded % local == 0
    assert size <= padded < size + local


async def test_the_local_size_is_as_asked(device: gpu.Device, program: gpu.Program) -> None:
    """Or the largest power of two, up to 64, that divides the size."""
    out = await device.empty(640, np.int32)
    group_size = program.kernel("group_size")
    for size, local, expected in [(640, None, 64), (48, None, 16), (7, None, 1), (600, 20, 20), (600, (8,), 8)]:
        await group_size(out, size=size, local=local)
        assert (await out.read())[0] == expected


@pytest.mark.parametrize("size", [0, -1, (4, 0), (), (1, 2, 3, 4), 1.5, "7"])
async def test_impossible_sizes_are_refused(device: gpu.Device, program: gpu.Program, size: object) -> None:
    """pyopencl takes a size of zero silently."""
    out = await device.empty(4, np.int32)
    with pytest.raises(ValueError, match=r"size of kernel 'group_size' is one to three whole numbers above zero, got "):
        await program.kernel("group_size")(out, size=size)  # type: ignore[arg-type]


async def test_local_sizes_must_fit(device: gpu.Device, program: gpu.Program) -> None:
    """The size, and the device."""
    out = await device.empty(4, np.int32)
    kernel = program.kernel("group_size")
    with pytest.raises(ValueError, match=r"local=\(2, 2\) of kernel 'group_size' needs as many sides as size=\(4,\)"):
        await kernel(out, size=4, local=(2, 2))
    with pytest.raises(ValueError, match=r"makes groups of 1000000, and at most \d+ are possible"):
        await kernel(out, size=4, local=1_000_000)
    with pytest.raises(
        ValueError, match=r"size=1180591620717411303424 of kernel .* is more than .*: launch it several"
    ):
        await kernel(out, size=1 << 70)


async def test_a_required_group_size_is_used(device: gpu.Device) -> None:
    """The source says it, nobody has to repeat it."""
    source = """
    kernel __attribute__((reqd_work_group_size(8, 1, 1))) void f(global int *out, int n)
    { if (get_global_id(0) < n) out[get_global_id(0)] = get_local_size(0); }
    """
    kernel = await device.kernel(source, "f")
    out = await device.empty(10, np.int32)
    await kernel(out, 10)
    assert (await out.read()).tolist() == [8] * 10
    with pytest.raises(ValueError, match=r"local=4 of kernel 'f' contradicts its reqd_work_group_size, \(8,\)"):
        await kernel(out, 10, local=4)


async def test_buffers_of_different_lengths_need_a_size(device: gpu.Device, program: gpu.Program) -> None:
    """Only the caller knows what is meant."""
    a, b = await device.upload(np.ones(4, np.float32)), await device.upload(np.ones(5, np.float32))
    with pytest.raises(ValueError, match=r"argument 'b' .* has 5 elements and 'a' has 4: .* size=\.\.\."):
        await program.kernel("add")(a, b, b, 4)
    await program.kernel("add")(a, b, b, 4, size=4)
    assert (await b.read()).tolist() == [2, 2, 2, 2, 1]
    nothing = await device.kernel("kernel void f(int n) {}", "f")
    with pytest.raises(ValueError, match=r"takes no buffers, so it needs a size: write size=1024"):
        await nothing(3)
    await nothing(3, size=2)


@pytest.mark.parametrize("nbytes", [0, -4])
def test_local_memory_has_a_size(nbytes: int) -> None:
    """In bytes."""
    with pytest.raises(ValueError, match="nbytes"):
        gpu.LocalMemory(nbytes)


async def test_local_memory_is_given_to_each_group(device: gpu.Device) -> None:
    """A sum over each work-group."""
    source = """
    kernel void sums(global const int *x, global int *out, local int *seen)
    {
        int i = get_local_id(0);
        seen[i] = x[get_global_id(0)];
        barrier(CLK_LOCAL_MEM_FENCE);
        if (i == 0) {
            int sum = 0;
            for (int j = 0; j < get_local_size(0); j++) sum += seen[j];
            out[get_group_id(0)] = sum;
        }
    }
    """
    x = np.arange(64, dtype=np.int32)
    out = await device.empty(4, np.int32)
    sums = await device.kernel(source, "sums")
    await sums(await device.upload(x), out, gpu.LocalMemory(16 * 4), size=64, local=16)
    np.testing.assert_array_equal(x.reshape(4, 16).sum(axis=1), await out.read())


# --- building ---------------------------------------------------------------------------------------


async def test_a_build_error_carries_the_compilers_message(device: gpu.Device) -> None:
    """At the source's own line."""
    with pytest.raises(
        gpu.BuildFailed, match=r"did not compile:\n(.*\n)?.*:2:\d+: .*use of undeclared identifier 'foo'"
    ) as caught:
        await device.build("kernel void f(global int *x)\n{ x[0] = foo; }")
    assert "undeclared identifier 'foo'" in caught.value.log
    assert "options" not in caught.value.log
    assert isinstance(caught.value, ValueError)
    await device.kernel(KERNELS, "add")


def test_a_folder_that_the_compiler_cannot_take_is_explained() -> None:
    """Only where it is included from, and the compiler does not like its options."""
    source = _source.Source('#include "a.h"', "/my kernels/k.cl", "/my kernels")
    assert "cannot include from a folder with a space in its name, /my kernels: move" in str(
        source.failed("Invalid build option: kernels", doubles=True)
    )
    assert "space" not in str(source.failed("k.cl:1:1: no a.h", doubles=True))
    assert _source.Source("int a;", "/my kernels/k.cl", "/my kernels").options == []


def test_the_line_of_a_message_is_shown_unless_the_compiler_shows_it() -> None:
    """With a mark below the column; lines of other files, and that are not there, are left as they are."""
    texts = {"<source>": "int a;\n\tx[0] = foo;"}
    at = "error: <source>:2:9: no foo"
    assert _source.explain(at, texts).splitlines() == [at, "    \tx[0] = foo;", "    \t       ^"]
    for said in (
        f"{at}\n  x[0] = foo;\n         ^",
        f"{at}\n    2 |         x[0] = foo;",
        "<source>:7:1: no",
        "a.h:2:1: no",
    ):
        assert _source.explain(said, texts) == said


@pytest.mark.parametrize("other", ["\f", "\v", "\x1c", "\x85", "\u2028"])
def test_lines_are_those_that_the_compiler_counts(other: str) -> None:
    """Which end at line feeds and carriage returns only."""
    text = f"a{other}\nb // {other}\r\nc bad;\rd bad;\n"
    for number, line in ((3, "c bad;"), (4, "d bad;")):
        said = f"k.cl:{number}:3: no"
        assert _source.explain(said, {"k.cl": text}) == f"{said}\n    {line}\n      ^"
    for said in ("k.cl:5:1: no", f"in {other} there"):
        assert _source.explain(said, {"k.cl": text}) == said


def test_a_place_is_looked_for_where_a_line_of_a_message_begins() -> None:
    """To look through a long one would take the square of its length."""
    said = f"k.cl:1:1: no {'a b ' * 300}: k.cl:1:1"
    assert _source.explain(said, {"k.cl": "int a;"}) == f"{said}\n    int a;\n    ^"


def test_what_is_wrong_in_a_generated_kernel_is_said_once() -> None:
    """Where it was written, and not for each use, however the compiler says it."""
    texts = {"<reduce>": " a + q +\n r"}
    pocl = "".join(
        f"error: <generated>:{use}:3 <Spelling=<reduce>:{at}>: no {name}\n"
        for use in (7, 8)
        for at, name in (("1:6", "q"), ("2:2", "r"))
    )
    assert _source.explain(f"{pocl}error: <generated>:9:1: other\nFailed", texts).splitlines() == [
        "error: <reduce>:1:6: no q",
        "     a + q +",
        "         ^",
        "error: <reduce>:2:2: no r",
        "     r",
        "     ^",
        "error: <generated>:9:1: other",
        "Failed",
    ]
    other = "".join(
        f"<generated>:{use}:3: error: no q\n    {use} |  R(x)\n      |  ^\n1:4:31: note: expanded from macro 'R'\n"
        "    4 | #define R(x) ROOKERY_R(x)\n<reduce>:1:6: note: expanded from macro 'ROOKERY_R'\n"
        "    1 |  a + q +\n      |      ^\n"
        for use in (7, 8)
    )
    assert _source.explain(f"Started\n<generated>:1:1: warning: w\n{other}2 errors\n", texts).splitlines() == [
        "Started",
        "<generated>:1:1: warning: w",
        "<reduce>:1:6: error: no q",
        "    1 |  a + q +",
        "      |      ^",
        "2 errors",
    ]


async def test_a_build_error_shows_the_line_it_is_about(device: gpu.Device) -> None:
    """Below the compiler's message, with a mark."""
    with pytest.raises(gpu.BuildFailed) as caught:
        await device.build("kernel void f(global int *x)\n{\n\tx[0] = foo;\n}")
    lines = str(caught.value).splitlines()
    at = next(index for index, line in enumerate(lines) if "<source>:3:9: " in line and "identifier 'foo'" in line)
    assert "x[0] = foo;" in lines[at + 1]
    assert "^" in lines[at + 2]


async def test_a_build_error_shows_the_lines_of_macros_and_included_files(device: gpu.Device, tmp_path: Path) -> None:
    """Where a macro is used and where it was written; in the file that they are in."""
    source, header = tmp_path / "kernels.cl", tmp_path / "macros.h"
    source.write_text('#include "macros.h"\n#define OURS(z) z + foo\nkernel void f(global int *x)\n{ x[0] = OURS(1); }')
    header.write_text("")
    with pytest.raises(gpu.BuildFailed) as caught:
        await device.build(source)
    for line in ("{ x[0] = OURS(1); }\n", "#define OURS(z) z + foo\n"):
        assert line in str(caught.value)
    header.write_text("// one\nint helper(int a) { return foo; }\n")
    source.write_text('#include "macros.h"\nkernel void f(global int *x) { x[0] = helper(1); }')
    for build in (source, source.read_text()):
        with pytest.raises(gpu.BuildFailed) as caught:
            await device.build(build, ["-I", str(tmp_path)])
        assert f"{header}:2:28: " in str(caught.value)
        assert " int helper(int a) { return foo; }\n" in str(caught.value)


async def test_a_file_is_in_utf_8(device: gpu.Device, tmp_path: Path) -> None:
    """With the mark that some editors put before it, or without; another one is named, with what to do about it."""
    text = "// \N{LATIN SMALL LETTER U WITH DIAERESIS}\nkernel void f(global int *x) { x[0] = 7; }"
    source = tmp_path / "kernels.cl"
    out = await device.empty(1, np.int32)
    for encoding in ("utf-8", "utf-8-sig"):
        source.write_text(text, encoding)
        await (await device.kernel(source, "f"))(out)
    source.write_text(text, "latin-1")
    with pytest.raises(
        gpu.ArgumentValueError,
        match=r"kernels\.cl is not in UTF-8 \(.* byte 0xfc in position 3.*\): save it as that, or",
    ):
        await device.build(source)


async def test_sources_come_from_files(device: gpu.Device, tmp_path: Path) -> None:
    """Which may include others beside them; a build error names the file."""
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "number.h").write_text("#define NUMBER 42\n")
    source = folder / "kernels.cl"
    source.write_text('#include "number.h"\nkernel void f(global int *x) { x[get_global_id(0)] = NUMBER; }')
    out = await device.empty(3, np.int32)
    await (await device.kernel(source, "f"))(out)
    assert (await out.read()).tolist() == [42] * 3
    (folder / "number.h").write_text("#define NUMBER 43\n")
    await (await device.kernel(source, "f"))(out)
    assert (await out.read()).tolist() == [43] * 3, "an included file may change"
    source.write_text("\nkernel void f(global int *x) { x = bar; }")
    with pytest.raises(
        gpu.BuildFailed, match=r"kernels\.cl:2:36: .*\n.*kernel void f\(global int \*x\) \{ x = bar; \}\n.* +\^"
    ):
        await device.build(source)
    with pytest.raises(FileNotFoundError, match=r"nothing\.cl"):
        await device.build(folder / "nothing.cl")
    await device.build(KERNELS)


async def test_a_program_is_built_once(device: gpu.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where two tasks ask for it at the same time; other options make another program."""
    built: list[str] = []
    compile_program = _opencl.compile_program

    def counted(context: _opencl.Context, source: str, options: Sequence[str]) -> _opencl.RawProgram:
        built.append(source)
        return compile_program(context, source, options)

    monkeypatch.setattr(_opencl, "compile_program", counted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(device.build, KERNELS)
        tasks.start_soon(device.build, KERNELS)
    first, second = await device.kernel(KERNELS, "fill"), await device.kernel(KERNELS, "fill")
    assert len(built) == 1
    a, b = await device.empty(4), await device.empty(4)
    first.submit(a, 1)
    second.submit(b, 2)
    assert ((await a.read()).tolist(), (await b.read()).tolist()) == ([1] * 4, [2] * 4)
    await device.build(KERNELS, ["-DN=1"])
    assert len(built) == 2


@pytest.mark.parametrize(
    "include",
    [
        '#include "{}"',
        '# include "{}"',
        ' \t#\tinclude "{}"',
        '#include"{}"',
        '/* */ # /* or * / */ include "{}"',
        '#\\\ninc\\\r\nlude \\\n"{}"',
        '%: include "{}"',
        '#define HEADER "{}"\n#include HEADER',
    ],
)
async def test_what_includes_a_file_is_built_anew(device: gpu.Device, tmp_path: Path, include: str) -> None:
    """However it is written: the file may have changed, which its text does not tell."""
    text = include.format("number.h") + "\nkernel void f(global int *x) { x[0] = NUMBER; }"
    source = tmp_path / "kernels.cl"
    source.write_bytes(text.encode())
    out = await device.empty(1, np.int32)
    for number in (1, 2):
        (tmp_path / "number.h").write_text(f"#define NUMBER {number}\n")
        for program in (await device.build(source), await device.build(text, ["-I", str(tmp_path)])):
            await program.kernel("f")(out)
            assert await out.read() == number


async def test_what_asks_whether_a_file_is_there_is_built_anew(device: gpu.Device, tmp_path: Path) -> None:
    """It may come and go, which the text does not tell."""
    text = '#if __has_include("there.h")\n#define N 2\n#else\n#define N 1\n#endif\nkernel void f(global int *x) { *x = N; }'
    source = tmp_path / "kernels.cl"
    source.write_text(text)
    out = await device.empty(1, np.int32)
    for number in (1, 2):
        for program in (await device.build(source), await device.build(text, ["-I", str(tmp_path)])):
            await program.kernel("f")(out)
            assert await out.read() == number
        (tmp_path / "there.h").touch()


@pytest.mark.parametrize("text", ['#embed "a"', '#if __has_embed("a")', "#elif __has_include_next(<a.h>)"])
def test_whatever_has_to_do_with_files_is_seen(text: str) -> None:
    """Also what not every compiler knows."""
    assert _source.Source(text).includes


def test_the_word_include_alone_is_no_include() -> None:
    """Such a program is kept, and its folder may have a space in its name."""
    for text in ("// we include all\nint include;", "#define include 1", "#define A include", ""):
        assert not _source.Source(text).includes


async def test_binaries_are_not_kept(device: gpu.Device) -> None:
    """Pyopencl would, where the driver keeps none, and a kernel that is made from one knows nothing of its arguments."""
    assert device.context.cache_dir is False  # type: ignore[attr-defined]


async def test_kept_programs_are_bounded(device: gpu.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that makes sources at run time does not fill the memory."""
    monkeypatch.setattr(_compiler, "KEPT", 2)
    for number in range(4):
        await device.build(f"kernel void f(global int *x) {{ x[0] = {number}; }}")
    assert len(device.compiler._kept) == 2


async def test_options_reach_the_compiler(device: gpu.Device) -> None:
    """Such as macros."""
    program = await device.build("kernel void f(global int *x) { x[get_global_id(0)] = N; }", ["-DN=42"])
    out = await device.empty(3, np.int32)
    await program.kernel("f")(out)
    assert (await out.read()).tolist() == [42] * 3


async def test_an_unknown_kernel_is_named(program: gpu.Program, device: gpu.Device) -> None:
    """With those that there are."""
    with pytest.raises(LookupError, match=r"no kernel 'sub'; there is 'add', 'increment', 'fill'"):
        program.kernel("sub")
    with pytest.raises(LookupError, match=r"there is none: mark functions with __kernel"):
        (await device.build("int f() { return 1; }")).kernel("f")


async def test_a_kernel_may_not_be_named_like_a_function_of_the_language(device: gpu.Device) -> None:
    """Some drivers give it another name, and then it is not found by its own: the error says why."""
    if device.info.platform != "Portable Computing Language":
        pytest.skip("a driver of its own kind")
    program = await device.build("kernel void step(global int *x) { x[0] = 1; }")
    with pytest.raises(LookupError, match="'_cl_step': `step` is a function of OpenCL C, give the kernel another name"):
        program.kernel("step")


async def test_doubles_are_refused_where_the_device_does_not_compute_with_them(device: gpu.Device) -> None:
    """Buffers, kernels and sources alike, each before anything is allocated or launched."""
    source = "kernel void f(global double *x) { x[0] += 1; }"
    program = await device.build(source)
    device.info = attrs.evolve(device.info, fp64=False)  # type: ignore[misc]
    refused = r"is of float64, and .* does not compute with double: write `x\.astype\(np\.float32\)`"
    for dtype in (np.float64, np.complex128, np.dtype([("a", "i4"), ("b", "f8")]), np.dtype(("f8", (2,)))):
        with pytest.raises(TypeError, match="does not compute with double"):
            await device.upload(np.zeros(4, dtype))
    with pytest.raises(gpu.ArgumentTypeError, match=f"a buffer {refused}"):
        await device.empty(4, np.float64)
    with pytest.raises(gpu.ArgumentTypeError, match=rf"argument 'x' \(double\* x\) of kernel 'f' {refused}"):
        program.kernel("f")
    without = _source.Source(source).failed("error: double", doubles=False)
    assert "This device does not compute with double: write float" in str(without)
    assert "does not compute" not in str(_source.Source(source).failed("error: x", doubles=True))
    assert device.pool.statistics().active_bytes == 0
    assert (await (await device.upload(np.ones(4, np.float16))).read()).tolist() == [1] * 4


async def test_a_warm_up_runs_off_the_loop_and_in_order(either: gpu.Device) -> None:
    """After what was started before, and before what is started later; the loop goes on meanwhile."""
    program = await either.build(KERNELS)
    fill, increment = program.kernel("fill"), program.kernel("increment")
    x = await either.upload(np.zeros(64, np.float32))
    async with anyio.create_task_group() as tasks:
        with Gate(either.queue) as gate:
            fill.submit(x, 10)
            tasks.start_soon(increment.warm_up, x)
            await anyio.wait_all_tasks_blocked()
            fill.submit(x, 20, size=32)
            gate.open()
    assert (await x.read()).tolist() == [20] * 32 + [11] * 32
    await increment.warm_up(x, local=16)
    assert (await x.read()).tolist() == [21] * 32 + [12] * 32


async def test_a_warm_up_checks_what_a_launch_checks(device: gpu.Device, program: gpu.Program) -> None:
    """And a cancelled one keeps its buffers until it is done."""
    increment = program.kernel("increment")
    with pytest.raises(gpu.ArgumentTypeError, match="takes 1 arguments, got 0"):
        await increment.warm_up()
    x = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue) as gate:
        program.kernel("fill").submit(x, 1)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await increment.warm_up(x)
        assert scope.cancelled_caught
        device.pool.release(x)
        assert device.pool.statistics().in_flight_bytes == x.reserved
        gate.open()
        await device.empty(3)
    while device.pool.statistics().in_flight_bytes:
        await current_loop().checkpoint()


# --- operations -------------------------------------------------------------------------------------


async def test_a_chain_waits_once(device: gpu.Device, program: gpu.Program) -> None:
    """Operations of a queue run in order, so awaiting the last is enough."""
    increment = program.kernel("increment")
    x = await device.upload(np.zeros(100, np.float32))
    operations = [increment.submit(x) for _ in range(10)]
    await operations[-1]
    assert all(operation.done for operation in operations)
    await operations[0]  # any number of times
    assert (await x.read()).tolist() == [10] * 100


async def test_many_tasks_wait_for_one_operation(device: gpu.Device, program: gpu.Program) -> None:
    """All of them are told."""
    x = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue) as gate:
        operation = program.kernel("increment").submit(x)
        assert repr(operation) == "<Operation kernel 'increment': in flight>"

        async def wait() -> None:
            await operation

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            gate.open()
    assert repr(operation) == "<Operation kernel 'increment': done>"


async def test_a_command_that_fails_raises_in_who_awaits_it(device: gpu.Device, program: gpu.Program) -> None:
    """And the device remains usable."""
    increment = program.kernel("increment")
    x = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue) as gate:
        operation = increment.submit(x)
        gate.fail()
        with pytest.raises(gpu.CommandFailed, match=r"kernel 'increment' failed: .*EXEC_STATUS_ERROR"):
            await operation
    assert device.statistics().failed == 1
    await x.write(np.zeros(4, np.float32))
    await increment(x)
    assert (await x.read()).tolist() == [1] * 4


async def test_a_failure_that_nobody_awaits_is_logged(
    device: gpu.Device, program: gpu.Program, caplog: pytest.LogCaptureFixture
) -> None:
    """No error is lost."""
    x = await device.upload(np.zeros(4, np.float32))
    with Gate(device.queue) as gate:
        program.kernel("increment").submit(x)
        gate.fail()
    await device.synchronize()
    assert [(record.levelno, record.getMessage()[:51]) for record in caplog.records] == [
        (logging.ERROR, "kernel 'increment' failed and nobody awaited it: cl")
    ]


async def test_profiling_tells_how_long_a_kernel_ran(program: gpu.Program) -> None:
    """Only where it was asked for."""
    async with gpu.open_device(DEVICE, profile=True) as device:
        x = await device.upload(np.zeros(1000, np.float32))
        operation = (await device.kernel(KERNELS, "increment")).submit(x)
        await operation
        assert operation.seconds is not None
        assert 0 < operation.seconds < 10
    unprofiled = program.owner
    operation = program.kernel("increment").submit(await unprofiled.upload(np.zeros(4, np.float32)))
    await operation
    assert operation.seconds is None


# --- queues -----------------------------------------------------------------------------------------


async def test_queues_run_beside_each_other(device: gpu.Device, program: gpu.Program) -> None:
    """One that is held back does not hold the other."""
    fill = program.kernel("fill")
    a, b = await device.empty(4), await device.empty(4)
    async with device.open_queue() as queue:
        with Gate(device.queue):
            operation = fill.submit(a, 1)
            await fill(b, 2, queue=queue)
            assert not operation.done
            assert (device.statistics().queues, queue.in_flight, device.queue.in_flight) == (2, 0, 1)
    assert device.statistics().queues == 1
    with pytest.raises(gpu.DeviceClosed, match=r"queue 1 of .* is closed"):
        fill.submit(a, 1, queue=queue)


async def test_commands_on_different_queues_that_share_a_buffer_keep_their_order(either: gpu.Device) -> None:
    """The order in which they were started is the order in which they see the data, transfers included."""
    program = await either.build(KERNELS)
    fill, increment = program.kernel("fill"), program.kernel("increment")
    x = await either.upload(np.zeros(4, np.float32))
    async with either.open_queue() as queue:
        with Gate(either.queue):
            fill.submit(x, 10)
            second = increment.submit(x, queue=queue)
            await anyio.wait_all_tasks_blocked()
            assert not second.done
        third = fill.submit(x, 30)
        assert (await x.read()).tolist() == [30] * 4
        await second
        await third
        async with anyio.create_task_group() as tasks:
            with Gate(queue) as gate:
                increment.submit(x, queue=queue)
                results: list[list[float]] = []

                async def read() -> None:
                    results.append((await x.read()).tolist())

                tasks.start_soon(read)
                await anyio.wait_all_tasks_blocked()
                assert not results
                gate.open()
        assert results == [[31] * 4]
