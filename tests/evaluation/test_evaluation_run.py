import cv2
import numpy as np
import pytest

from mattecli.errors import InputError, UsageError
from mattecli.evaluation import metrics, networks
from mattecli.evaluation.dataset import is_mask, open_data, pair, read_matte, read_truth
from mattecli.evaluation.run import evaluate


def disc(radius=10, size=(40, 48), soft=2.0):
    rows, columns = np.mgrid[: size[0], : size[1]]
    distance = np.hypot(rows - size[0] / 2, columns - size[1] / 2)
    inside = np.clip((radius - distance) / soft + 0.5, 0, 1) if soft else distance < radius
    return np.round(inside * 255.0).astype(np.uint8)


def trimap(alpha):
    return np.where(alpha == 0, 0, np.where(alpha == 255, 255, 128)).astype(np.uint8)


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


@pytest.fixture
def folders(tmp_path):
    """Ground truth a, sub/b, c; predictions of a and sub/b (as TIFF); trimaps of all."""
    for name, radius in (("a", 10), ("sub/b", 14), ("c", 8)):
        write(tmp_path / f"gt/{name}.png", disc(radius))
        write(tmp_path / f"trimaps/{name}.png", trimap(disc(radius)))
    write(tmp_path / "pred/a.png", disc(11))
    write(tmp_path / "pred/sub/b.tiff", disc(13))
    return tmp_path


def test_a_folder_is_scored_and_the_missing_is_counted(folders):
    write(folders / "pred/z.png", disc())
    steps = []
    report = evaluate(pair(folders / "pred", folders / "gt", folders / "trimaps"), progress=steps.append)
    assert [row.name for row in report.rows] == ["a", "sub/b"]
    assert report.missing == ("c",) and report.surplus == ("z",) and report.failed == {}
    assert (report.expected, report.complete, report.truth) == (3, False, "mattes")
    assert steps == [1, 1]
    region = metrics.unknown(trimap(disc(10)))
    assert report.rows[0].scores == {
        "whole": pytest.approx(metrics.measure(disc(11), disc(10))),
        "trimap": pytest.approx(metrics.measure(disc(11), disc(10), region)),
    }
    mean = (metrics.mad(disc(11), disc(10)) + metrics.mad(disc(13), disc(14))) / 2
    assert report.mean()["whole"]["mad"] == pytest.approx(mean)


def test_what_cannot_be_scored_is_told_and_the_rest_is_done(folders):
    write(folders / "pred/sub/b.tiff", disc(13, size=(41, 48)))
    (folders / "pred/c.png").write_bytes(b"no picture")
    report = evaluate(pair(folders / "pred", folders / "gt"))
    assert [row.name for row in report.rows] == ["a"]
    assert "b.tiff is 48 x 41 pixels, its ground truth" in report.failed["sub/b"]
    assert "c.png" in report.failed["c"] and report.missing == ()


def test_out_of_memory_is_one_images_failure(folders):
    def predict(photo):
        if photo.source.endswith("a.png"):
            raise MemoryError
        return photo.rgb[..., 0]

    report = evaluate(pair(folders / "pred", folders / "gt"), predict)
    assert [row.name for row in report.rows] == ["sub/b"] and "a.png: not enough memory" in report.failed["a"]


def test_trimaps_must_be_there_and_have_an_unknown_region(folders):
    (folders / "trimaps/a.png").unlink()
    write(folders / "trimaps/sub/b.png", disc(14, soft=0))
    report = evaluate(pair(folders / "pred", folders / "gt", folders / "trimaps"))
    assert "has no trimap" in report.failed["a"] and "no unknown region" in report.failed["sub/b"]
    assert report.mean() == {}


def test_match_and_limit(folders):
    names = [item.name for item in pair(folders / "pred", folders / "gt", match="sub/*").items]
    assert names == ["sub/b"]
    assert [item.name for item in pair(folders / "pred", folders / "gt", limit=2).items] == ["a", "c"]
    with pytest.raises(UsageError, match="called x"):
        pair(folders / "pred", folders / "gt", match="x")


def test_folders_that_do_not_fit(folders):
    with pytest.raises(UsageError, match="not a folder"):
        pair(folders / "nowhere", folders / "gt")
    write(folders / "pred/a.jpg", disc())
    with pytest.raises(UsageError, match="same name"):
        pair(folders / "pred", folders / "gt")
    with pytest.raises(UsageError, match="images/ and alphas/"):
        open_data(folders)


def constant(alpha):
    """What `networks.photos` gives for a network that always answers `alpha`."""

    class Matter:
        def matte(self, rgb):
            assert rgb.shape == (40, 48, 3) and rgb.dtype == np.uint8
            return alpha.astype(np.float32) / 255 + 0.001

    return networks.photos(Matter())


@pytest.mark.parametrize("kind", ["alphas", "masks"])
def test_a_network_is_scored_in_the_8_bits_of_its_file(tmp_path, kind):
    truth = disc(10, soft=2 if kind == "alphas" else 0)
    write(tmp_path / f"{kind}/p.png", truth)
    write(tmp_path / "images/p.jpg", np.zeros((40, 48, 3), np.uint8))
    report = evaluate(open_data(tmp_path), constant(np.minimum(disc(9), 250)))
    assert report.rows[0].scores == {"whole": pytest.approx(metrics.measure(np.minimum(disc(9), 250), truth))}
    assert report.truth == ("masks" if kind == "masks" else "mattes")


def test_trimaps_of_a_data_set_are_found(tmp_path):
    for folder, picture in (("images", disc()), ("alphas", disc()), ("trimaps", trimap(disc()))):
        write(tmp_path / folder / "p.png", picture)
    report = evaluate(open_data(tmp_path), constant(disc() - (disc() == 255)))
    assert set(report.mean()) == {"whole", "trimap"}


def test_reading_mattes(tmp_path):
    alpha = disc()
    write(tmp_path / "grey16.png", alpha.astype(np.uint16) * 257)
    write(tmp_path / "rgb.png", np.repeat(alpha[..., None], 3, 2))
    write(tmp_path / "rgba.png", np.dstack([255 - alpha, alpha * 0, alpha, alpha]))
    write(tmp_path / "opaque.png", np.dstack([alpha, alpha, alpha, np.full_like(alpha, 255)]))
    write(tmp_path / "colour.png", np.dstack([255 - alpha, alpha, alpha]))
    np.testing.assert_array_equal(read_matte(tmp_path / "grey16.png"), alpha.astype(np.uint16) * 257)
    for name in ("rgb", "rgba", "opaque"):
        np.testing.assert_array_equal(read_matte(tmp_path / f"{name}.png"), alpha)
    with pytest.raises(InputError, match="colour picture"):
        read_matte(tmp_path / "colour.png")


def test_a_mask_of_zeros_and_ones_is_refused(tmp_path):
    write(tmp_path / "mask.png", disc() // 255)
    with pytest.raises(InputError, match="0 and 1"):
        read_truth(tmp_path / "mask.png")
    assert is_mask(disc(soft=0)) and not is_mask(disc())
