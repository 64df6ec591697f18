"""What a user puts together is looked at before any work: images, labels, preprocessing, settings."""

import re

import numpy as np
import pytest
import torch
from conftest import CLASSES, coloured, small_classifier
from torch import nn

from classvec_lab import (
    Classifier,
    ClassMoments,
    ClassVectors,
    Features,
    class_vectors,
    cross_task_linearity,
    extract_features,
    finetune,
    readout,
    statistics,
    unlearn,
)
from classvec_lab.datasets import ImageDataset
from classvec_lab.errors import ClassvecError, DatasetError, MismatchError, ModelError
from classvec_lab.models.preprocess import PreprocessedImages

DATA = coloured(12)
PLAIN = small_classifier().preprocess
QUIET = {"progress": False, "cache": False}


class Items(list):
    """Plain pairs with class names, as a user's own data set."""

    classes = CLASSES


def growing(image):
    """Tensors of other sizes for other images."""
    return torch.zeros(3, 8, 8 + int(np.asarray(image).sum() % 2))


class Counted:
    """A preprocessing that counts how often it is called."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __deepcopy__(self, memo):
        return self

    def __call__(self, image):
        self.calls += 1
        return self.function(image)


MADE = {  # what a preprocessing gives, and what the error tells of it
    "a processor's dict": (
        lambda im: {"pixel_values": PLAIN(im)[None]},
        r"made: dict .*pixel_values",
    ),
    "a batch of one": (lambda im: PLAIN(im)[None], r"made: Tensor \(1, 3, 8, 8\) torch\.float32"),
    "the image": (lambda im: im, "made: Image"),
    "bytes": (lambda im: (255 * PLAIN(im)).byte(), r"made: Tensor \(3, 8, 8\) torch\.uint8"),
    "an array": (lambda im: PLAIN(im).numpy(), "made: ndarray"),
    "a list": (lambda im: [PLAIN(im)], "made: list"),
    "one channel without its axis": (lambda im: PLAIN(im)[0], r"made: Tensor \(8, 8\)"),
    "nothing": (lambda im: None, "made: NoneType"),
    "an error": (lambda im: 1 / 0, "failed: ZeroDivisionError division"),
}


@pytest.mark.parametrize("preprocess", MADE)
@pytest.mark.parametrize(
    "call",
    [
        lambda c: extract_features(c, DATA, **QUIET),
        lambda c: finetune(c, DATA, epochs=1, **QUIET),
        lambda c: class_vectors(small_classifier(), c, DATA, **QUIET),
        lambda c: cross_task_linearity(small_classifier(), c, DATA, progress=False),
        lambda c: cross_task_linearity(c, small_classifier(), DATA, progress=False),
    ],
    ids=["extract", "finetune", "vectors", "linearity", "linearity, the first"],
)
def test_a_preprocessing_is_refused_at_the_first_image(preprocess, call):
    function, told = MADE[preprocess]
    counted = Counted(function)
    with pytest.raises(DatasetError, match=f"image 0 of .*Image.*; the preprocessing {told}") as e:
        call(small_classifier(preprocess=counted))
    assert counted.calls == 1
    assert "needed: " in str(e.value).lower()
    assert "['pixel_values'][0]" in str(e.value)


def test_images_of_several_sizes_are_named_with_the_first_one_s_size():
    encoder = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 6))
    model = Classifier(encoder, nn.Linear(6, 3), classes=CLASSES, preprocess=growing)
    sizes = [growing(DATA[i][0]).shape for i in range(len(DATA))]
    other = next(i for i, size in enumerate(sizes) if size != sizes[0])
    told = rf"image {other} of .*{re.escape(str(tuple(sizes[other])))}.*{re.escape(str(tuple(sizes[0])))}"
    with pytest.raises(DatasetError, match=told):
        extract_features(model, DATA, **QUIET)


@pytest.mark.parametrize("form", [torch.float64, torch.float16, torch.bfloat16])
def test_any_floating_point_will_do_for_images(form):
    images = PreprocessedImages(DATA, lambda image: PLAIN(image).to(form))
    assert images[3][0].dtype == torch.float32
    torch.testing.assert_close(images[3][0], PLAIN(DATA[3][0]), atol=0.01, rtol=0.01)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (
            {"image": DATA[0][0], "label": 0},
            r"of pairs \(image, label\): its first item is \{'image",
        ),
        ((DATA[0][0], 0, "a.png"), r"of pairs \(image, label\).*'a.png'"),
        (DATA[0][0], r"of pairs \(image, label\)"),
        ((DATA[0][0], "red"), "the label of item 0 is 'red'"),
        ((DATA[0][0], 1.5), "the label of item 0 is 1.5"),
        ((DATA[0][0], None), "the label of item 0 is None"),
        ((DATA[0][0], 3), "labels 3 are none of the 3 classes red, green, blue, numbered from 0"),
        ((DATA[0][0], -1), "images without a class"),
        ((None, 0), "item 0 is a NoneType"),
    ],
    ids=["dict", "three", "image", "text", "half", "none", "too high", "negative", "no image"],
)
def test_an_item_that_is_no_image_with_its_class_number_is_told(item, told):
    with pytest.raises(DatasetError, match=rf"(?s)Items.*{told}"):
        extract_features(small_classifier(), Items([item]), **QUIET)


@pytest.mark.parametrize("label", [2, np.int64(2), torch.tensor(2), np.array(2)], ids=repr)
def test_whole_numbers_of_any_kind_are_labels(label):
    features = extract_features(small_classifier(), Items([(DATA[0][0], label)]), **QUIET)
    assert features.y.tolist() == [2]


def test_a_data_set_without_class_names_has_the_classifiers():
    some = torch.utils.data.Subset([DATA[0], DATA[3]], [1])
    features = extract_features(small_classifier(), some)
    assert (features.classes, features.y.tolist()) == (CLASSES, [DATA[3][1]])


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_is_refused_by_name_before_any_work(half):
    counted = Counted(PLAIN)
    model = small_classifier(preprocess=counted).to(half)
    for call in (
        lambda: extract_features(model, DATA, **QUIET),
        lambda: finetune(model, DATA, epochs=1, **QUIET),
        lambda: unlearn(model, DATA, "red", method="retain", val=DATA, progress=False),
        lambda: class_vectors(model, model, DATA, **QUIET),
        lambda: readout.predict(model, DATA),
    ):
        with pytest.raises(ModelError, match=rf"{half}.*write classifier\.float\(\)"):
            call()
    assert counted.calls <= 3  # class vectors look at the first image
    assert len(extract_features(model.float(), DATA, **QUIET)) == len(DATA)


def test_a_single_half_precision_layer_is_enough():
    model = small_classifier()
    model.encoder[3].bfloat16()
    with pytest.raises(ModelError, match=r"torch\.bfloat16"):
        extract_features(model, DATA, **QUIET)


@pytest.mark.parametrize("train", [finetune, unlearn], ids=lambda f: f.__name__)
def test_a_frozen_model_is_not_evaluated_first(train):
    counted = Counted(PLAIN)
    model = small_classifier(preprocess=counted).requires_grad_(False)
    more = {"target": "red", "method": "retain", "val": DATA} if train is unlearn else {}
    with pytest.raises(ModelError, match=r"all are frozen.*requires_grad_\(True\)"):
        train(model, DATA, **more, progress=False)
    assert counted.calls == 0


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (extract_features, {"batch_size": 0}),
        (extract_features, {"batch_size": None}),
        (extract_features, {"batch_size": "8"}),
        (extract_features, {"batch_size": True}),
        (extract_features, {"workers": -1}),
        (extract_features, {"workers": 0.5}),
        (extract_features, {"precision": "half"}),
        (finetune, {"lr": "0.1"}),
        (finetune, {"lr": [0.1]}),
        (finetune, {"lr": float("nan")}),
        (finetune, {"epochs": True}),
        (finetune, {"clip": float("inf")}),
        (finetune, {"seed": 1.5}),
        (finetune, {"workers": -2}),
        (finetune, {"weight_decay": None, "epochs": "3"}),
    ],
    ids=lambda value: getattr(value, "__name__", None) or str(value),
)
def test_settings_are_refused_by_name_before_an_image_is_read(function, settings):
    counted, name = Counted(PLAIN), list(settings)[-1]
    with pytest.raises(ModelError, match=name):
        function(small_classifier(preprocess=counted), DATA, **settings)
    assert counted.calls == 0


class Refusing(nn.Module):
    """An encoder that raises what it is given."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, images):
        raise self.error


@pytest.mark.parametrize("error", [RuntimeError, TypeError, AttributeError, AssertionError])
def test_a_failing_encoder_tells_what_came(error):
    encoder = Refusing(error("no such luck"))
    model = Classifier(encoder, nn.Linear(2, 3), classes=CLASSES, preprocess=PLAIN)
    told = r"Refusing, fails on images \(1, 3, 8, 8\), torch.float32 on cpu: no such luck"
    with pytest.raises(ModelError, match=told):
        extract_features(model, DATA, **QUIET)


class Thrown(nn.Module):
    """What a dropout that eval mode doesn't turn off does."""

    def forward(self, x):
        return nn.functional.dropout(x, 0.5, training=True)


@pytest.mark.parametrize("part", ["encoder", "preprocess"])
def test_what_differs_at_each_reading_is_warned_of(part):
    model = small_classifier()
    steady = model.preprocess
    if part == "encoder":
        model.encoder.append(Thrown())
    else:
        model.preprocess = lambda image: steady(image) + torch.rand(1)
    with pytest.warns(UserWarning, match="another representation each time: take what is random"):
        extract_features(model, DATA, **QUIET)


def test_the_second_model_of_a_pair_is_tried_before_the_first_is_extracted():
    counted = Counted(PLAIN)
    ft = Classifier(Refusing(RuntimeError()), nn.Linear(6, 3), classes=CLASSES, preprocess=PLAIN)
    for call in (
        lambda pre: class_vectors(pre, ft, DATA, **QUIET),
        lambda pre: cross_task_linearity(pre, ft, DATA, progress=False),
    ):
        counted.calls = 0
        with pytest.raises(ClassvecError):
            call(small_classifier(preprocess=counted))
        assert counted.calls <= 3


def test_a_validation_set_that_does_not_fit_is_found_before_training():
    class Seen(nn.Module):
        seen = 0

        def forward(self, images):
            Seen.seen += len(images)
            return images.flatten(1)[:, :6]

    encoder = nn.Sequential(Seen(), nn.Linear(6, 6))
    model = Classifier(encoder, nn.Linear(6, 3), classes=CLASSES, preprocess=PLAIN)
    with pytest.raises(DatasetError, match="item 0 is a NoneType"):
        finetune(model, DATA, val=Items([(None, 0)]), epochs=1, **QUIET)
    assert Seen.seen == 0


Z, Y = np.arange(12.0).reshape(4, 3), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("z", "y"),
    [
        (torch.tensor(Z).bfloat16(), Y),
        (torch.tensor(Z).half(), Y),
        (torch.tensor(Z, requires_grad=True), Y),
        (torch.tensor(Z), torch.tensor(Y)),
        (Z.tolist(), Y.tolist()),
        (Z.astype(int), Y.astype(np.uint8)),
    ],
    ids=["bf16", "half", "grad", "tensors", "lists", "integers"],
)
def test_representations_of_any_real_format_are_features(z, y):
    features = Features(z, y, "abc")
    np.testing.assert_allclose(features.z, Z)
    np.testing.assert_array_equal(features.y, Y)
    np.testing.assert_allclose(ClassMoments(3, 3).update(z, y).mean[1], Z[1])


@pytest.mark.parametrize(
    ("z", "y", "told"),
    [
        (Z, ["a", "b", "c", "a"], r"y of .*integers in 0\.\.2 .*classes\.index\(name\).*<U1.*'a'"),
        (Z, np.array(["a", 1, 2, 0], object), r"integers in 0\.\.2 .*object, such as \['a'\]"),
        (Z, [None] * 4, "integers in 0..2 .*object, such as .None"),
        (Z, Y.astype(float), r"got float64 in 0\.0\.\.2\.0"),
        (Z, Y + 1, r"integers in 0\.\.2 for 3 classes.*in 1\.\.3"),
        (
            Z.astype(object),
            Y,
            r"z .*real numbers, as \.astype\(float\).*object, such as \[0\.0\]",
        ),
        (Z + 1j, Y, r"z .*\.real gives them; got complex128"),
        (np.full((4, 3), "x"), Y, r"z .*<U1, such as \['x'\]"),
        ([[1, 2], [3]], [0, 1], r"z .*one array of numbers"),
        (np.ma.masked_greater(Z, 3), Y, r"z .*has masked entries: leave them out"),
        ([torch.ones(3, requires_grad=True)] * 4, Y, r"z .*one array of numbers"),
    ],
    ids=[
        "text",
        "mixed",
        "none",
        "floats",
        "from 1",
        "objects",
        "complex",
        "words",
        "ragged",
        "masked",
        "list",
    ],
)
@pytest.mark.parametrize("owner", [Features, None])
def test_what_is_no_features_is_told_by_name(z, y, told, owner):
    with pytest.raises(MismatchError, match=told):
        Features(z, y, "abc") if owner else ClassMoments(3, 3).update(z, y)


def test_class_names_are_distinct_everywhere():
    z, head, images = np.zeros((3, 4)), nn.Linear(192, 3), np.zeros((3, 8, 8))
    for call in (
        lambda classes: Features(Z, Y, classes),
        lambda classes: ClassVectors(z, z, [1] * 3, classes),
        lambda classes: Classifier(nn.Flatten(), head, classes=classes, preprocess=PLAIN),
        lambda classes: ImageDataset.from_arrays(images, [0, 1, 2], classes=classes),
    ):
        for classes in (["a", "a", "b"], ["a", "b", np.str_("a")]):
            with pytest.raises(ClassvecError, match=r"names must be distinct; repeated: a$"):
                call(classes)


def test_class_names_in_another_order_are_refused_everywhere():
    other = coloured(12, classes=CLASSES[::-1])
    model = small_classifier()
    features = Features(np.zeros((2, 6)), [0, 1], CLASSES[::-1])
    for call in (
        lambda: extract_features(model, other),
        lambda: readout.predict(model, features),
        lambda: readout.accuracy(model, other),
        lambda: finetune(model, other),
        lambda: class_vectors(model, model, other),
    ):
        with pytest.raises(MismatchError, match=r"another order, in which dataset\.only\(names\)"):
            call()
    right = other.only(CLASSES)
    assert extract_features(model, right, **QUIET).classes == CLASSES


def test_features_of_a_foreign_task_can_be_extracted_but_not_predicted():
    model, foreign = small_classifier(), coloured(12, classes=("cyan", "red", "lime"))
    assert extract_features(model, foreign, **QUIET).classes == foreign.classes
    with pytest.raises(MismatchError, match="lacks green, blue; the classifier lacks cyan, lime"):
        readout.predict(model, foreign)


def test_a_head_of_another_width_does_not_pass_on_cached_features(data):
    model = small_classifier()
    features = extract_features(model, data, progress=False)
    wide = Classifier(model.encoder, nn.Linear(9, 3), classes=CLASSES, preprocess=PLAIN)
    with pytest.raises(
        MismatchError, match=r"the head of 'Sequential' reads .*\(N, 9\); got \(30, 6\)"
    ):
        extract_features(wide, data, progress=False)
    with pytest.raises(MismatchError, match=r"\(N, 9\); got \(30, 6\)"):
        readout.predict(wide, features)


def test_predict_and_accuracy_take_what_one_types_first(data):
    model = small_classifier()
    features = extract_features(model, data, progress=False)
    np.testing.assert_array_equal(readout.predict(model, data), readout.predict(model, features))
    table = readout.accuracy(model, data)
    assert list(table["class"]) == [*CLASSES, "all"]
    expected = (readout.predict(model, features) == data.targets).mean()
    assert table["accuracy"].iloc[-1] == pytest.approx(expected)
    for given in ((model, data), (model, data, data.classes)):
        with pytest.raises(
            MismatchError, match=r"write accuracy\(predicted, y, classes\).*readout\.acc"
        ):
            statistics.accuracy(*given)
