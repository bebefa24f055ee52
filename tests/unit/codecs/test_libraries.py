"""Values of scientific libraries: polynomials, sparse matrices, tensors, datasets, pictures."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import pandas as pd
import PIL.Image
import pytest
import scipy.sparse
import xarray as xr

import xcargo
from tests.exact import assert_exact
from xcargo.codecs import Codec, Registry
from xcargo.codecs.base import contiguous
from xcargo.codecs.libraries import CLASSES
from xcargo.errors import DecodeError, MissingDependencyError, UnsupportedTypeError
from xcargo.model.settings import Settings
from xcargo.testing import CodecTests

HAS_TORCH = importlib.util.find_spec("torch") is not None
DENSE = np.array([[0, 1.5, 0], [0, 0, 0], [2, 0, -0.0]], dtype="f4")
FORMATS = ("bsr", "coo", "csc", "csr", "dia", "dok", "lil")


def sparse() -> Iterator[Any]:
    for form in FORMATS:
        yield getattr(scipy.sparse, f"{form}_array")(DENSE)
        yield getattr(scipy.sparse, f"{form}_matrix")(scipy.sparse.csr_array((4, 7), dtype="c16"))
    unsorted = scipy.sparse.csr_matrix((np.array([1, 2, 3]), np.array([2, 0, 0]), np.array([0, 3])), shape=(1, 3))
    wide = scipy.sparse.csc_array(DENSE)
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    duplicates = scipy.sparse.coo_array((np.array([1, 2]), (np.array([1, 1]), np.array([0, 0]))), shape=(2, 2))
    spare = scipy.sparse.csr_array(DENSE)
    spare.data, spare.indices = np.append(spare.data, 7), np.append(spare.indices, 0)
    yield from (unsorted, wide, duplicates, spare, scipy.sparse.bsr_array(np.eye(4), blocksize=(2, 2)))
    yield scipy.sparse.dok_array((10**9, 10**9), dtype="?")


def datasets() -> Iterator[Any]:
    times = pd.date_range("2026-01-01", periods=3, freq="D", tz=None)
    array = xr.DataArray(
        np.arange(6.0).reshape(3, 2),
        dims=("time", "place"),
        coords={"time": times, "place": ["a", "b"], "height": ("place", [1, 2], {"units": "m"}), "scalar": 7},
        name="heat",
        attrs={"units": "K", "range": (0, 400)},
    )
    array.encoding = {"dtype": "float32", "zlib": True, "chunksizes": (3, 2)}
    yield from (array, array.to_dataset(), array.variable, array.drop_indexes("time"), array.isel(time=0))
    yield array.stack(both=("time", "place"))
    yield xr.Dataset({"heat": array, 5: ("time", [b"x", None, {"a": 1}])}, attrs={"title": "t"})
    yield from (xr.Dataset(), xr.DataArray(3), xr.DataArray([True], dims="x"))
    yield xr.Dataset(
        {"c": ("x", pd.Categorical(["u", "v", "u"]))}, coords={"x": pd.period_range("2026", periods=3, freq="D")}
    )
    yield xr.DataTree.from_dict(
        {"/": array.to_dataset(), "/deep/er": xr.Dataset({"n": ("time", [1, 2, 3])})}, name="root"
    )


def tensors() -> Iterator[Any]:
    if not HAS_TORCH:
        return
    import torch

    for dtype in (
        torch.bfloat16,
        torch.float8_e5m2,
        torch.float16,
        torch.complex64,
        torch.bool,
        torch.int64,
        torch.uint16,
    ):
        yield torch.tensor([[0, 1], [1, 0]]).to(dtype)
    yield from (torch.tensor(1.5), torch.empty(0, 3), torch.arange(6).reshape(2, 3).T, torch.eye(2, requires_grad=True))
    yield from (torch.nn.Parameter(torch.ones(2)), torch.Size([1, 2]), torch.float64, torch.device("cuda:1"))
    yield torch.tensor([1 + 2j]).conj()


def same(left: Any, right: Any) -> bool:
    """Exactly equal, in every part."""
    try:
        assert_exact(left, right)
    except AssertionError:
        return False
    return True


def polynomial_of_numpy_1() -> Any:
    """Whose window is of integers, where none was given."""
    value = np.polynomial.Chebyshev([1, 2])
    value.window = np.array([-1, 1])
    return value


class TestLibraries(CodecTests):
    """Each class, with what distinguishes its instances."""

    VALUES: Sequence[Any] = (
        np.poly1d([1, 2, 3], variable="s"),
        np.poly1d([0]),
        np.polynomial.Polynomial([1, 2]),
        polynomial_of_numpy_1(),
        np.polynomial.Chebyshev([1 + 2j, 0], domain=[0, 5], window=[-2, 2], symbol="t"),
        *(getattr(np.polynomial, name)([0.5, 0]) for name in ("Legendre", "Laguerre", "Hermite", "HermiteE")),
        np.random.default_rng(5),
        np.random.RandomState(5),
        *(getattr(np.random, name)(5) for name in ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")),
        np.random.SeedSequence(2**200, spawn_key=(1, 2)),
        pd.NamedAgg("price", "sum"),
        *sparse(),
        *datasets(),
        *tensors(),
    )

    @pytest.fixture
    def codec(self) -> Codec:
        return Registry(entry_points=False).codec("library")

    def equal(self, left: Any, right: Any) -> bool:
        return same(left, right)


def test_every_class_has_a_value() -> None:
    """None is listed that nobody tried; torch's where torch is installed."""
    tried = {type(value).__name__ for value in TestLibraries.VALUES}
    listed = {name for library, names in CLASSES.items() if library != "torch" or HAS_TORCH for name in names}
    assert listed <= tried


def through(value: Any) -> Any:
    """The value after a way through all codecs."""
    registry = Registry(entry_points=False)
    encoded = registry.encode(value)
    return registry.decode(encoded.codec, contiguous(encoded), dict(encoded.params))


def test_they_live_anywhere_in_a_value() -> None:
    """Large arrays of a matrix in a list are parts, small ones are inside the tree."""
    value = {"m": [scipy.sparse.random_array((300, 300), density=0.2, format="csr"), np.poly1d([1, 2])]}
    back = through(value)
    assert same(back["m"][0], value["m"][0])
    assert same(back["m"][1], value["m"][1])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "zero first": (lambda: _leading_zero(), "first coefficient is 0"),
    "bad index": (lambda: _broken(), "would not build again"),
    "attrs": (lambda: xr.DataArray([1], attrs={"f": object()}), r"At value\['variable'\]\[2\]\['f'\]"),
    "other array": (lambda: xr.DataArray(np.ma.array([1])).copy(data=_Meters([1])), "as_numpy"),
}


class _Meters(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of another library, as pint's."""

    def __init__(self, data: Any) -> None:
        self.data = np.asarray(data)
        self.shape, self.dtype, self.ndim = self.data.shape, self.data.dtype, self.data.ndim

    def __array_function__(self, *args: Any, **kwargs: Any) -> Any:
        return NotImplemented

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        return NotImplemented


def _leading_zero() -> Any:
    value = np.poly1d([1, 2])
    value[4] = 0
    return value


def _broken() -> Any:
    value = scipy.sparse.csr_array(np.eye(2))
    value.indices[0] = 9
    return value


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_come_back_is_refused(name: str) -> None:
    """At the push, with the reason."""
    make, reason = REFUSED[name]
    with pytest.raises(UnsupportedTypeError, match=reason):
        Registry(entry_points=False).encode(make())


ONE = np.ones(1)
INTEGERS = np.ones(1, int)


def matrix(name: str, **state: Any) -> list[Any]:
    return ["scipy", f"scipy.sparse:{name}", {"shape": [2, 2], "data": ONE, **state}]


def forged_position(generator: Any, position: int) -> list[Any]:
    """Beyond the words that it has drawn ahead, where numpy's compiled code would read on."""
    state = generator.state
    place, name = (state["state"], "pos") if "pos" in state["state"] else (state, "buffer_pos")
    place[name] = position
    return ["numpy", f"numpy.random:{type(generator).__name__}", {"seed_seq": None, "state": state}]


FORGED: dict[str, list[Any]] = {
    "a position outside": forged_position(np.random.MT19937(1), 625),
    "a negative position": forged_position(np.random.MT19937(1), -1),
    "a position outside of the buffer": forged_position(np.random.Philox(1), 5),
    "a negative position in the buffer": forged_position(np.random.Philox(1), -1),
    "a position outside of an old generator": [
        "numpy",
        "numpy.random:RandomState",
        {"state": {**forged_position(np.random.MT19937(1), 625)[2]["state"], "has_gauss": 0, "gauss": 0.0}},
    ],
    "an index outside": matrix("csr_array", indices=np.array([7]), indptr=np.array([0, 1, 1])),
    "a row outside": matrix("csr_array", indices=np.array([0]), indptr=np.array([0, 2, 1])),
    "a negative index": matrix("coo_array", coords=[np.array([-1]), np.array([0])], canonical=True),
    "rows without end": matrix("lil_array", shape=[2**40, 2], lengths=INTEGERS, indices=INTEGERS),
    "a range as array": matrix("coo_array", data=range(2**40), coords=[range(2**40)] * 2, canonical=True),
    "keys outside": matrix("dok_array", keys=np.array([[2, 0]])),
    "another class": ["scipy", "scipy.sparse:save_npz", {}],
    "another module": ["numpy", "os:poly1d", {}],
    "a large pool": ["numpy", "numpy.random:SeedSequence", {"entropy": 1, "spawn_key": (), "pool_size": 2**30}],
    "another generator": ["numpy", "numpy.random:RandomState", {"state": {"bit_generator": "seed"}}],
    "a variable of text": ["xarray", "xarray:Variable", {"variable": [["x"], "abc", {}, {}]}],
    "an index of a list": [
        "xarray",
        "xarray:DataArray",
        {
            "name": "n",
            "variable": [["x"], ONE, {}, {}],
            "coords": [],
            "indexes": [["PandasIndex", ["x"], "x", [1], "i8"]],
        },
    ],
}


def test_an_aggregation_keeps_its_arguments_and_holds_no_function() -> None:
    """pandas 3 takes arguments for the function; a function itself is code, and refused by its place."""
    registry = Registry(entry_points=False)
    if isinstance(pd.NamedAgg("a", "sum"), tuple):
        pytest.skip("NamedAgg of pandas 2 takes no arguments")
    value = pd.NamedAgg("a", "quantile", 0.5, interpolation="lower")
    encoded = registry.encode({"q": value})
    back = registry.decode(encoded.codec, contiguous(encoded), dict(encoded.params))["q"]
    assert (type(back), vars(back)) == (type(value), vars(value))
    with pytest.raises(UnsupportedTypeError, match="aggfunc"):
        registry.encode(pd.NamedAgg("a", len))


@pytest.mark.parametrize("name", FORGED)
def test_forged_state_is_refused(name: str) -> None:
    """No class that is not listed, no index outside of a matrix, and no memory that the payload does not justify."""
    registry = Registry(entry_points=False)
    with pytest.raises(DecodeError):
        registry.decode("library", registry.tree.pack(FORGED[name]), {})


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    registry = Registry(entry_points=False)
    encoded = registry.encode(scipy.sparse.csr_array(DENSE))
    monkeypatch.setitem(sys.modules, "scipy.sparse", None)
    with pytest.raises(MissingDependencyError, match=r"scipy\.sparse\.csr_array, and scipy is not.*pip install scipy"):
        registry.decode(encoded.codec, contiguous(encoded), dict(encoded.params))


def pictures() -> Iterator[Any]:
    noise = np.random.default_rng(1)
    for mode in (
        "L",
        "RGB",
        "RGBA",
        "CMYK",
        "YCbCr",
        "HSV",
        "LAB",
        "LA",
        "La",
        "PA",
        "RGBa",
        "RGBX",
        "I",
        "F",
        "I;16",
        "1",
    ):
        bands = PIL.Image.new(mode, (1, 1))
        size = {"I;16": 2, "I": 4, "F": 4, "1": 1}.get(mode, len(bands.getbands()))
        yield PIL.Image.frombytes(mode, (8, 3), noise.bytes(8 * 3 * size))
    indexed = PIL.Image.new("P", (5, 5), 3)
    indexed.putpalette(range(30))
    indexed.info |= {"transparency": b"\0\xff", "dpi": (72, 72), "comment": "é"}
    yield from (indexed, PIL.Image.new("RGB", (0, 5)), PIL.Image.new("RGB", (3, 3), "red"))


class TestImages(CodecTests):
    """Pictures of each mode."""

    VALUES: Sequence[Any] = tuple(pictures())

    @pytest.fixture
    def codec(self) -> Codec:
        return Registry(entry_points=False).codec("image")

    def equal(self, left: Any, right: Any) -> bool:
        return same(left, right)


def test_a_palette_keeps_its_transparency() -> None:
    """Which a copy by PIL itself would lose."""
    image = PIL.Image.new("P", (2, 2), 1)
    image.putpalette(range(8), "RGBA")
    assert through(image).getpalette("RGBA") == image.getpalette("RGBA")


@pytest.mark.parametrize(("mode", "is_png"), [("RGB", True), ("CMYK", False)])
def test_a_picture_is_a_png_where_that_is_exact(mode: str, is_png: bool) -> None:
    """So a browser shows what is stored."""
    encoded = Registry(entry_points=False).encode(PIL.Image.new(mode, (2, 2)))
    assert bytes(contiguous(encoded)).startswith(b"\x89PNG") is is_png


@pytest.mark.parametrize(
    "forged", [{"size": [2**20, 2**20]}, {"size": [-1, 4]}, {"mode": "L"}, {"format": "gif"}, {"mode": []}]
)
def test_a_picture_is_no_larger_than_its_bytes_can_hold(forged: dict[str, Any]) -> None:
    """Neither its params nor its PNG make a pull allocate what is not there."""
    registry = Registry(entry_points=False)
    encoded = registry.encode(PIL.Image.new("RGB", (4, 4)))
    with pytest.raises(DecodeError):
        registry.decode("image", contiguous(encoded), {**encoded.params, **forged})


def test_a_picture_without_pixels_has_no_more_rows_than_fit() -> None:
    """PIL allocates a pointer for each of them."""
    registry = Registry(entry_points=False)
    tail = registry.tree.pack([{}, None])
    with pytest.raises(DecodeError, match="0 x 268435456"):
        registry.decode("image", tail, {"mode": "L", "size": [0, 2**28], "tail_bytes": len(tail)})
    with pytest.raises(UnsupportedTypeError, match="70000 x 0"):
        registry.encode(PIL.Image.new("L", (70_000, 0)))


def encode_and_decode(value: Any, settings: Settings | None = None) -> Any:
    registry = Registry(entry_points=False)
    encoded = registry.encode(value, settings)
    return registry.decode(encoded.codec, b"".join(map(bytes, encoded.parts)), dict(encoded.params))


class Labelled(np.ndarray):
    """A subclass whose instances have attributes, as units."""


@pytest.mark.parametrize("nested", [False, True])
def test_a_mapped_array_comes_back_as_an_array(tmp_path: Path, caplog: pytest.LogCaptureFixture, nested: bool) -> None:
    """And the log says so."""
    array = np.memmap(tmp_path / "a.bin", dtype="i4", mode="w+", shape=(100, 300))
    array[:] = np.arange(30_000).reshape(100, 300)
    back = encode_and_decode({"a": array})["a"] if nested else encode_and_decode(array)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, array)
    assert "numpy.memmap as ndarray" in caplog.text


def test_an_array_with_attributes_of_its_own_is_refused() -> None:
    """An array without its unit is another value."""
    array = np.arange(3).view(Labelled)
    assert type(encode_and_decode(array)) is np.ndarray
    array.unit = "m"  # type: ignore[attr-defined]
    with pytest.raises(UnsupportedTypeError, match="attributes of its own"):
        encode_and_decode(array)
    with pytest.raises(UnsupportedTypeError, match="strict_types"):
        encode_and_decode(np.arange(3).view(Labelled), Settings(root=None, strict_types=True))


def test_an_opened_picture_comes_back_with_its_pixels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a picture that has no file; one of several frames is refused."""
    frames = [PIL.Image.new("L", (4, 4), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "one.png", dpi=(72, 72))
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with PIL.Image.open(tmp_path / "one.png") as picture:
        back = encode_and_decode(picture)
        assert type(back) is PIL.Image.Image
        assert (back.tobytes(), back.info) == (picture.tobytes(), picture.info)
    assert "PIL.PngImagePlugin.PngImageFile as Image" in caplog.text
    with (
        PIL.Image.open(tmp_path / "two.gif") as picture,
        pytest.raises(UnsupportedTypeError, match=r"2 frames.*value\.copy"),
    ):
        encode_and_decode([picture])


def test_a_part_of_a_tree_comes_back_as_a_tree_of_its_own() -> None:
    """Its root is that part, with the coordinates that it has from its parents."""
    tree = xr.DataTree.from_dict(
        {
            "/": xr.Dataset(coords={"time": [10, 20]}),
            "/a": xr.Dataset({"n": ("time", [1, 2])}),
            "/a/b": xr.Dataset({"m": 3}),
        }
    )
    back = encode_and_decode(tree["a"])
    assert back.identical(tree["a"].copy())
    assert back.to_dataset().identical(tree["a"].to_dataset())
    assert (back.path, back.name, [node.path for node in back.subtree]) == ("/", "a", ["/", "/b"])
    assert tree["a"].parent is tree


@pytest.mark.parametrize("nested", [False, True])
def test_a_figure_comes_back_as_a_file_with_its_png(caplog: pytest.LogCaptureFixture, nested: bool) -> None:
    """For people to look at, and said in the log; strict_types refuses it."""
    figure = matplotlib.figure.Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2])
    back = encode_and_decode([figure])[0] if nested else encode_and_decode(figure)
    assert (type(back), back.name, back.media_type) == (xcargo.File, "figure.png", "image/png")
    with PIL.Image.open(back) as picture:
        assert picture.size == (100, 50)
    assert "matplotlib.figure.Figure as File" in caplog.text
    with pytest.raises(UnsupportedTypeError, match="strict_types"):
        encode_and_decode(figure, Settings(root=None, strict_types=True))
