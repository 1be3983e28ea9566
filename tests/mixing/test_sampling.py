import cv2
import numpy as np
import pytest
import torch

from mattecli.errors import UsageError
from mattecli.mixing import augment, sampling
from mattecli.mixing.augment import Damage
from mattecli.mixing.batch import Label
from mattecli.mixing.sampling import Mixture
from mattecli.mixing.settings import data_settings
from mattecli.mixing.sources import read, subject_of
from tests.mixing.making import save


@pytest.fixture
def data(tmp_path):
    """Ten photos with masks, four with boxes, two RGBA, two backgrounds."""
    rng = np.random.default_rng(0)

    for number in range(1, 11):
        image = rng.integers(0, 255, (96, 64, 3), dtype=np.uint8)
        mask = np.zeros((96, 64), np.uint8)
        cv2.ellipse(mask, (32, 50), (15, 35), 0, 0, 360, 255, -1)
        save(tmp_path / f"people/images/{number:04}.jpg", image)
        save(tmp_path / f"people/masks/{number:04}.png", mask)
    for number in range(1, 5):
        save(tmp_path / f"crowd/images/{number}.jpg", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8))
        (tmp_path / "crowd/boxes").mkdir(exist_ok=True)
        (tmp_path / f"crowd/boxes/{number}.txt").write_text("0.3 0.3 0.6 0.9\n")
    for number in range(2):
        rgba = rng.integers(0, 255, (64, 64, 4), dtype=np.uint8)
        save(tmp_path / f"rgba/{number}.png", rgba)
        save(tmp_path / f"scenes/{number}.jpg", rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
    return tmp_path


def _table(**people):
    return {
        "phases": [{"until": 2, "size": 64, "batch": 4}, {"until": 9, "size": 96, "batch": 3}],
        "sources": [
            {
                "name": "people",
                "kind": "masks",
                "root": "people",
                "holdout": 10,
                "validate": True,
                "composed": 0.4,
            }
            | people,
            {"name": "crowd", "kind": "boxes", "root": "crowd", "weight": 0.5, "scenery": 1.0},
            {"name": "cutouts", "kind": "rgba", "root": "rgba", "weight": 0.5},
            {"name": "scenes", "kind": "backgrounds", "root": "scenes", "weight": 0.0, "scenery": 1.0},
        ],
    }


def test_a_batch_is_a_function_of_seed_and_number(data):
    settings = data_settings(_table())
    first, second = Mixture(settings, data, 7), Mixture(settings, data, 7)
    second.batch(3)
    for number in (0, 5):
        one, two = first.batch(number), second.batch(number)
        for name in ("image", "alpha", "known", "label", "mask", "trimap"):
            assert torch.equal(getattr(one, name), getattr(two, name)), name
    assert not torch.equal(first.batch(0).alpha, Mixture(settings, data, 8).batch(0).alpha)


def test_shapes_ranges_and_phases(data):
    mixture = Mixture(data_settings(_table()), data, 0)
    for number, (long, size) in {0: (64, 4), 5: (96, 3), 50: (96, 3)}.items():
        batch = mixture.batch(number)
        n, _, h, w = batch.image.shape
        assert n == size and max(h, w) == long and h % 32 == w % 32 == 0
        for plane in (batch.image, batch.alpha, batch.known):
            assert plane.shape[0] == n and plane.shape[2:] == (h, w)
            assert 0 <= plane.min() and plane.max() <= 1
        assert set(batch.known.unique().tolist()) <= {0.0, 1.0}


def test_each_label_teaches_only_what_it_knows(data):
    mixture = Mixture(data_settings(_table(composed=0.0)), data, 0)
    seen = set()
    for number in range(12):
        batch = mixture.batch(number)
        for label, alpha, known in zip(batch.label, batch.alpha, batch.known, strict=True):
            seen.add(int(label))
            if label == Label.BOXES:
                assert alpha.sum() == 0 and known.min() == 0
            if label == Label.MASK:
                soft = (alpha > 0.02) & (alpha < 0.98)
                assert (known[soft] == 0).all() and (known == 0).float().mean() < 0.5
            if label == Label.MATTE:
                assert known.all()
    assert seen == {Label.BOXES, Label.MASK, Label.MATTE}


def test_backgrounds_teach_that_nobody_is_there_and_unlabelled_photos_nothing(data):
    table = _table()
    for kind, known in (("backgrounds", 1), ("unlabelled", 0)):
        table["sources"] = [{"name": "scenes", "kind": kind, "root": "scenes"}]
        batch = Mixture(data_settings(table), data, 0).batch(0)
        assert batch.alpha.sum() == 0
        assert (batch.known == known).all()


def test_kept_aside_photos_are_validated_and_never_trained_on(data):
    mixture = Mixture(data_settings(_table()), data, 0)
    assert [s.name for s in mixture.validation()] == ["people/0010"]
    trained = {item.image.stem for _, items in mixture._subjects + mixture._scenery for item in items}
    assert "0010" not in trained and "0009" in trained


def test_excluded_photos_are_not_trained_on(data):
    (data / "skip.txt").write_text("# why\n0003.jpg\t0.4\n0010.jpg\t0.5\n")
    mixture = Mixture(data_settings(_table(exclude="skip.txt")), data, 0)
    trained = {item.image.stem for _, items in mixture._subjects for item in items}
    assert "0003" not in trained and "0004" in trained
    assert [s.name for s in mixture.validation()] == ["people/0010"]


def test_only_photos_that_match_are_used(data):
    mixture = Mixture(data_settings(_table(match="000[12]")), data, 0)
    trained = {item.image.stem for source, items in mixture._subjects for item in items if source.name == "people"}
    assert trained == {"0001", "0002"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"weigth": 1.0}, "weigth"),
        ({"kind": "photos"}, "photos"),
        ({"holdout": "ten"}, "holdout"),
        ({"root": "nowhere"}, "nowhere"),
        ({"exclude": "gone.txt"}, "gone.txt"),
    ],
)
def test_a_wrong_table_is_named(data, change, word):
    with pytest.raises(UsageError, match=word):
        Mixture(data_settings(_table(**change)), data, 0)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sources": "people"}, "sources"),
        ({"phases": ["first"]}, "phases"),
        ({"phases": [{"until": 1, "size": 64, "batch": 0}]}, "batch"),
        ({"phases": [{"until": 1, "size": 64, "batch": 1, "closeup": 3.0}]}, "closeup"),
        ({"turned": 1.5}, "turned"),
        ({"objects": -0.1}, "objects"),
        ({"film": 2.0}, "film"),
        ({"groups": 3}, "groups"),
        ({"clips": float("nan")}, "clips"),
        ({"tilt": -1.0}, "tilt"),
        ({"sources": [{"name": "x", "root": "people"}]}, "'kind' is missing"),
        ({"aspects": [0]}, "aspects"),
        ({"motion": [0.0, 1.0]}, "motion"),
        ({"motion": [2.0, 1.0]}, "slowest and the fastest"),
        ({"motion": [1.0]}, "slowest and the fastest"),
        ({"sources": [{"name": "x", "kind": "masks", "root": "people", "weight": -1.0}]}, "negative"),
    ],
)
def test_a_table_of_the_wrong_shape_is_named(change, word):
    with pytest.raises(UsageError, match=word):
        data_settings(_table() | change)


def test_a_holdout_of_every_photo_leaves_nothing_to_train_on(data):
    table = _table(holdout=1) | {"sources": [_table(holdout=1)["sources"][0]]}
    with pytest.raises(UsageError, match="leaves nothing to train on: holdout keeps every photo aside"):
        Mixture(data_settings(table), data, 0)


def test_mattes_that_are_not_there_can_be_made(data):
    with pytest.raises(UsageError, match=r"no mattes found in .*people; make them with .* mattecli\.mixing\.prepare"):
        Mixture(data_settings(_table(kind="mattes")), data, 0)
    with pytest.raises(UsageError, match=r"no trimaps found in .*people\."):
        Mixture(data_settings(_table(kind="trimaps")), data, 0)


@pytest.mark.parametrize("top", [1, 7, 200, 255])
def test_a_mask_of_two_values_is_subject_where_it_is_not_0(top):
    mask = np.zeros((8, 8), np.uint8)
    assert not subject_of(mask).any()
    mask[2:5] = top
    np.testing.assert_array_equal(subject_of(mask), mask > 0)
    assert subject_of(np.full_like(mask, top)).all()


@pytest.mark.parametrize("numbers", [[0, 1, 2, 3], [0, 15, 38, 128, 255], range(40)])
def test_a_mask_of_numbers_is_subject_where_it_is_not_0(numbers):
    mask = np.repeat(np.array(numbers, np.uint8), 9).reshape(-1, 9)
    np.testing.assert_array_equal(subject_of(mask), mask > 0)


def test_a_mask_that_went_through_jpeg_or_has_a_soft_edge_ends_in_the_middle():
    whole = cv2.circle(np.zeros((200, 200), np.uint8), (100, 100), 60, 255, -1)
    coded = cv2.imencode(".jpg", whole, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    for grey in (cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), cv2.GaussianBlur(whole, (0, 0), 2)):
        assert np.count_nonzero((grey > 0) != (whole > 0)) > 500
        assert np.count_nonzero(subject_of(grey) != (whole > 0)) < 20


def test_16_bit_alpha_is_scaled(data):
    cv2.imwrite(str(data / "rgba/deep.png"), np.full((40, 40, 4), 0x8040, np.uint16))
    table = _table() | {"sources": [{"name": "deep", "kind": "rgba", "root": "rgba", "match": "deep", "scenery": 1.0}]}
    picture = read(Mixture(data_settings(table), data, 0)._subjects[0][1][0])
    assert (picture.alpha == 0x80).all() and (picture.rgb == 0x80).all()


def test_size_must_be_a_multiple_of_32():
    with pytest.raises(UsageError, match="100"):
        data_settings(_table() | {"phases": [{"until": 1, "size": 100, "batch": 1}]})


def test_paint_out_keeps_the_rest_and_leaves_nothing_of_the_subject():
    picture = np.full((64, 64, 3), 40, np.uint8)
    picture[20:40, 20:40] = 255
    hide = np.zeros((64, 64), np.float32)
    hide[18:42, 18:42] = 1
    painted = augment.paint_out(picture, hide)
    assert (painted == 40).all()


def test_warp_keeps_picture_and_alpha_together():
    rng = np.random.default_rng(3)
    alpha = np.zeros((200, 150), np.uint8)
    cv2.circle(alpha, (80, 90), 50, 255, -1)
    picture = np.repeat(alpha[..., None], 3, axis=2)
    for _ in range(10):
        matrix = augment.view((200, 150), (64, 96), (30.0, 40.0, 130.0, 140.0), rng, 0.5, 10.0)
        moved = augment.warp(picture, matrix, (64, 96)).astype(int)[..., 0]
        assert np.abs(moved - augment.warp(alpha, matrix, (64, 96))).max() <= 1


@pytest.fixture
def clips(data):
    table = _table(kind="masks") | {"phases": [{"until": 9, "size": 64, "batch": 8, "frames": 4}]}
    return table


def test_clips_have_frames_and_flatten_with_time_first(data, clips):
    batch = Mixture(data_settings(clips), data, 3).batch(1)
    assert batch.frames == 4 and batch.image.shape[:3] == (2, 4, 3) and batch.label.shape == (2, 4)
    flat = batch.flat()
    assert flat.image.shape[0] == 8 and flat.frames == 1
    assert torch.equal(flat.image[2], batch.image[0, 1]) and torch.equal(flat.alpha[3], batch.alpha[1, 1])


def test_things_move_and_their_alpha_moves_along(data, clips):
    """In a clip that moves, the picture's bright disc and its alpha shift by the same number of pixels."""
    for number in range(1, 11):
        mask = cv2.imread(str(data / f"people/masks/{number:04}.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(data / f"people/images/{number:04}.jpg"), np.dstack([mask // 2 + 60] * 3))
    clips["sources"] = [clips["sources"][0] | {"composed": 0.0}, *clips["sources"][3:]]
    mixture, moved = Mixture(data_settings(clips), data, 3), 0
    for index in range(16):
        batch = mixture.batch(index)
        for image, alpha in zip(batch.image, batch.alpha, strict=True):
            moved += bool((alpha[0] - alpha[-1]).abs().mean() > 0.02)
            for frame, own in zip(image, alpha, strict=True):
                if 0.1 < own.mean() < 0.9:
                    inside, outside = frame[:, own[0] > 0.9].mean(), frame[:, own[0] < 0.1].mean()
                    assert inside > outside
    assert moved >= 4


def test_clips_move_as_fast_as_asked(data, clips):
    def change(motion):
        mixture = Mixture(data_settings(clips | {"motion": motion}), data, 3)
        batches = [mixture.batch(index) for index in range(12)]
        changes = [(batch.alpha[:, 1:] - batch.alpha[:, :-1]).abs().mean((1, 2, 3, 4)) for batch in batches]
        return torch.cat(changes).median()  # some clips are cut to another scene

    assert 5 * change([0.001, 0.01]) < change([1.0, 1.0])


def test_a_share_of_the_batches_are_clips(data, clips):
    mixture = Mixture(data_settings(clips | {"clips": 0.5}), data, 3)
    kinds = [mixture.batch(index).frames for index in range(12)]
    assert set(kinds) == {1, 4}
    with pytest.raises(UsageError, match="frames 9"):
        data_settings(clips | {"phases": [{"until": 9, "size": 64, "batch": 8, "frames": 9}]})


@pytest.mark.parametrize("turned", [0.0, 1.0])
def test_photos_are_turned_by_a_right_angle(data, turned):
    slope = np.repeat(np.linspace(250, 5, 96, dtype=np.uint8)[:, None, None], 64, 1).repeat(3, 2)
    for path in (data / "people/images").iterdir():
        cv2.imwrite(str(path), slope)
    table = _table(composed=0.0) | {"turned": turned, "tilt": 0.0, "aspects": [0.667]}
    table["sources"] = table["sources"][:1]
    mixture = Mixture(data_settings(table), data, seed=1)
    for number in range(4):
        batch = mixture.batch(number)
        height, width = batch.image.shape[-2:]
        assert height > width and batch.alpha.shape[-2:] == batch.image.shape[-2:]
        down = batch.image.mean((1, 3)).diff().mean(1)
        across = batch.image.mean((1, 2)).diff().mean(1)
        steep, flat = (across, down) if turned else (down, across)
        assert (steep.abs() > 5 * flat.abs()).all() and (turned or (steep < 0).all())


def test_objects_come_into_samples_only_where_asked_for(data):
    """Without them the batches are what they were before there were any."""
    plain, none, some = (
        Mixture(data_settings(_table() | more), data, 3) for more in ({}, {"objects": 0.0}, {"objects": 1.0})
    )
    assert torch.equal(plain.batch(0).image, none.batch(0).image)
    with_objects = some.batch(0)
    assert not torch.equal(plain.batch(0).image, with_objects.image)
    assert with_objects.alpha.shape == plain.batch(0).alpha.shape and with_objects.alpha.max() <= 1


def test_films_look_alike_from_frame_to_frame(data, clips, monkeypatch):
    """All frames are between the same bars, or grey."""
    monkeypatch.setattr(sampling, "CUTS", 0)
    monkeypatch.setattr(Damage, "draw", lambda rng: Damage(None, None, None, None))
    mixture, barred = Mixture(data_settings(clips | {"film": 1.0}), data, 3), 0
    for index in range(6):
        batch = mixture.batch(index)
        for image, alpha, known in zip(batch.image, batch.alpha, batch.known, strict=True):
            empty = ((alpha == 0) & (known == 1))[:, 0].all(0)
            bars = empty[:2].all() and image[:, :, :2].max() < 0.2
            bars |= empty[:, :2].all() and image[..., :2].max() < 0.2
            assert bars or (image[:, 0] - image[:, 2]).abs().mean() < 0.03
            barred += bool(bars)
    assert barred >= 3
