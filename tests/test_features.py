"""Extraction gives what the encoder gives, leaves the model alone, and its cache can be trusted."""

import multiprocessing

import numpy as np
import pytest
import torch
from conftest import coloured, small_classifier
from PIL import Image

from classvec_lab import Features, class_vectors, extract_features
from classvec_lab.errors import FileFormatError, MismatchError
from classvec_lab.files import cache_dir, read_tensors


def direct(classifier, dataset):
    with torch.inference_mode():
        return torch.stack(
            [classifier.encode(classifier.preprocess(image)[None])[0] for image, _ in dataset]
        ).numpy()


def cached():
    return sorted(cache_dir("features").glob("*.safetensors"))


def test_features_are_the_encoder_s_own(classifier, data):
    features = extract_features(classifier, data, batch_size=7, progress=False)
    np.testing.assert_allclose(features.z, direct(classifier, data), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(features.y, data.targets)
    assert features.z.dtype == np.float32
    assert features.classes == data.classes


def test_batch_size_does_not_matter(classifier, data):
    a, b = (
        extract_features(classifier, data, batch_size=n, cache=False, progress=False).z
        for n in (1, 30)
    )
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_mode_hooks_and_generator_are_as_before(classifier, data):
    state = torch.get_rng_state()
    extract_features(classifier, data, cache=False, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    classifier.train()
    classifier.encoder[1].eval()
    modes = [m.training for m in classifier.modules()]
    extract_features(classifier, data, progress=False)
    assert [m.training for m in classifier.modules()] == modes
    assert not any(m._forward_hooks for m in classifier.modules())


def test_the_cache_is_read(classifier, data, monkeypatch):
    first = extract_features(classifier, data, progress=False)
    monkeypatch.setattr(type(classifier), "encode", lambda *_: pytest.fail("the encoder ran again"))
    second = extract_features(classifier, data, progress=False)
    np.testing.assert_array_equal(first.z, second.z)
    assert second.model == first.model


def test_the_cache_key_sees_weights_preprocessing_data_and_precision(classifier, data):
    from classvec_lab.models import Preprocess

    variants = [
        (classifier, data, {}),
        (small_classifier(seed=1), data, {}),
        (classifier, coloured(30, noise=61), {}),
        (classifier, data.subset(np.arange(29)), {}),
        (
            small_classifier(
                preprocess=Preprocess("open_clip", {"size": 8, "mean": [0.4] * 3, "std": [0.5] * 3})
            ),
            data,
            {},
        ),
        (classifier, data, {"precision": "bfloat16"}),
    ]
    for n, (model, images, options) in enumerate(variants, 1):
        extract_features(model, images, progress=False, **options)
        assert len(cached()) == n


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_cache_is_extracted_again(classifier, data, damage):
    first = extract_features(classifier, data, progress=False)
    (path,) = cached()
    content = bytearray(path.read_bytes())
    content[-5] ^= 255
    path.write_bytes({"truncate": content[:-40], "flip": content, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="a file in the cache is damaged and will be made again"):
        second = extract_features(classifier, data, progress=False)
    np.testing.assert_array_equal(first.z, second.z)
    np.testing.assert_array_equal(extract_features(classifier, data, progress=False).z, first.z)


def test_what_cannot_be_hashed_is_not_cached(data):
    nothing = object()

    def preprocess(image):
        pixels = np.array(image, np.float32).transpose(2, 0, 1) / 255
        return torch.from_numpy(pixels) if nothing else None

    classifier = small_classifier(preprocess=preprocess)
    with pytest.warns(UserWarning, match=r"features are not cached: preprocess\.nothing can't be"):
        features = extract_features(classifier, data, progress=False)
    assert not cached()
    np.testing.assert_allclose(features.z, direct(classifier, data), rtol=1e-5, atol=1e-6)


def test_an_encoder_with_hooks_is_not_cached(classifier, data):
    plain = extract_features(classifier, data, progress=False)
    hook = classifier.encoder[-1].register_forward_hook(lambda *args: args[-1] + 1)
    with pytest.warns(UserWarning, match=r"encoder\.3 can't be hashed \(it carries hooks\)"):
        hooked = extract_features(classifier, data, progress=False)
    hook.remove()
    assert hooked.model is None
    np.testing.assert_allclose(hooked.z, plain.z + 1, rtol=1e-5, atol=1e-5)
    assert len(cached()) == 1


def test_any_sequence_of_images_will_do(classifier, data):
    class Plain(list):
        classes = data.classes

    features = extract_features(
        classifier, Plain(data[i] for i in range(len(data))), progress=False
    )
    np.testing.assert_allclose(features.z, direct(classifier, data), rtol=1e-5, atol=1e-6)


def _extract_in_a_process(folder, queue):
    import os

    os.environ["CLASSVEC_DATA"] = str(folder)
    torch.set_num_threads(1)
    queue.put(extract_features(small_classifier(), coloured(), progress=False).z.sum())


def test_two_processes_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    jobs = [
        context.Process(target=_extract_in_a_process, args=(tmp_path / "both", queue))
        for _ in range(2)
    ]
    for job in jobs:
        job.start()
    sums = [queue.get(timeout=120) for _ in jobs]
    for job in jobs:
        job.join(timeout=60)
    assert [job.exitcode for job in jobs] == [0, 0]
    assert sums[0] == sums[1]
    assert len(list((tmp_path / "both" / "cache" / "features").glob("*.safetensors"))) == 1


def test_bfloat16_moves_class_vectors_little(data):
    pre, ft = small_classifier(seed=0), small_classifier(seed=1)
    exact, half = (
        class_vectors(pre, ft, data, precision=p, progress=False).kappa
        for p in ("float32", "bfloat16")
    )
    assert np.linalg.norm(half - exact) < 0.02 * np.linalg.norm(exact)
    cosine = (
        np.einsum("cm,cm->c", half, exact)
        / np.linalg.norm(half, axis=1)
        / np.linalg.norm(exact, axis=1)
    )
    assert cosine.min() > 0.999


def test_the_precision_is_recorded_and_read(classifier, data):
    first, second, half = (
        extract_features(classifier, data, progress=False, precision=precision)
        for precision in ("float32", "auto", "bfloat16")
    )
    assert (first.precision, second.precision, half.precision) == ("float32",) * 2 + ("bfloat16",)
    assert len(cached()) == 2
    again = extract_features(classifier, data, progress=False, precision="bfloat16")
    assert again.precision == "bfloat16"
    assert read_tensors(cached()[0])[1]["precision"] in ("float32", "bfloat16")
    assert not [p for p in cache_dir("features").iterdir() if p.suffix == ".lock"]


def test_features_check_themselves():
    z, y = np.zeros((3, 2)), np.array([0, 1, 1])
    assert len(Features(z, y, ["a", "b"])) == 3
    broken = z.copy()
    broken[1, 0] = np.nan
    for args, message in (
        ((broken, y, "ab"), r"first sample 1 \(class 'b'\) under model m"),
        ((z, y[:2], "ab"), r"\(3, 2\) and \(2,\)"),
        ((z, y, "a"), "labels must be integers in 0..0"),
        ((z, y - 1, "ab"), "labels must be"),
        ((np.zeros((0, 2)), np.zeros(0, int), "ab"), "N >= 1"),
    ):
        with pytest.raises(MismatchError, match=message):
            Features(*args, model="m")


def test_a_broken_encoder_is_named(data):
    classifier = small_classifier()
    torch.nn.init.constant_(classifier.encoder[1].weight, float("nan"))
    with pytest.raises(MismatchError, match="not finite"):
        extract_features(classifier, data, progress=False)
    assert not cached()


def test_a_failing_preprocessing_names_the_image(data):
    def refuse(image: Image.Image):
        raise ValueError("too small")

    with pytest.raises(Exception, match=r"image 0 of .*too small"):
        extract_features(small_classifier(preprocess=refuse), data, cache=False, progress=False)


def test_class_vectors_of_models_that_do_not_fit(data):
    with pytest.raises(MismatchError, match="6 dimensions and the fine-tuned one 5"):
        class_vectors(small_classifier(), small_classifier(dim=5), data)
    with pytest.raises(MismatchError, match="pre-trained"):
        class_vectors(small_classifier(("a", "b", "c")), small_classifier(), data)


def test_truncated_weights_are_named(tmp_path, classifier):
    from classvec_lab import load_classifier

    folder = classifier.save(tmp_path / "saved")
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(FileFormatError, match=r"weights\.safetensors"):
        load_classifier(folder)
