"""Every source that people come with: features equal the library's own, and no head is lost or guessed."""

import sys
import warnings

import numpy as np
import pytest
import torch
from one_image import ABC, IMAGE, close, read
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from classvec_lab import Classifier, Features, load_classifier
from classvec_lab.errors import MismatchError, ModelError
from classvec_lab.models import state_dict_as_loaded
from classvec_lab.readout import predict

SMALL = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
ARCH = {"arch": "timm:test_resnet", "preprocess": SMALL}


def quiet(*arguments, **options):
    """Load where warnings are not the subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_classifier(*arguments, **options)


class Net(nn.Module):
    """A user's own network with three outputs, 12 dimensions before them."""

    def __init__(self, n=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.bn = nn.Conv2d(3, 12, 3, stride=2), nn.BatchNorm2d(12)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(12, n)

    def features(self, x):
        return F.relu(self.bn(self.conv(x))).mean((2, 3))

    def forward(self, x):
        return self.fc(self.drop(self.features(x)))


@pytest.fixture(scope="module")
def small_resnet():
    """A small network of timm, with three outputs and live batch-norm statistics."""
    import timm

    torch.manual_seed(3)
    network = timm.create_model("test_resnet", num_classes=3)
    for _ in range(2):
        network(torch.randn(8, 3, 32, 32) + 0.3)
    return network.eval()


@pytest.fixture
def saved(tmp_path):
    def save(state, name="my.pt"):
        path = tmp_path / name
        save_file(state, path) if name.endswith("safetensors") else torch.save(state, path)
        return path

    return save


# Files of weights, with an architecture

PREFIXES = [
    "",
    "module.",
    "_orig_mod.",
    "module._orig_mod.",
    "_orig_mod.module.",
    "model.",
    "net.",
    "model.module.",
    "encoder.",
    "student.backbone.",
    "network.",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_state_dict_is_read_under_any_prefix_and_keeps_its_own_head(saved, small_resnet, prefix):
    path = saved(
        {"epoch": 1, "state_dict": {prefix + k: v for k, v in small_resnet.state_dict().items()}}
    )
    classifier = load_classifier(path, classes=ABC, **ARCH)
    z, logits = read(classifier)
    x = classifier.preprocess(IMAGE)[None]
    assert x.shape == (1, 3, 32, 32)
    with torch.inference_mode():
        close(z, small_resnet.forward_head(small_resnet.forward_features(x), pre_logits=True))
        close(logits, small_resnet(x))
    assert classifier.classes == ("a", "b", "c")
    back = state_dict_as_loaded(classifier)
    assert back.keys() == small_resnet.state_dict().keys()
    assert all(torch.equal(back[k], v) for k, v in small_resnet.state_dict().items())


def test_the_ways_to_name_a_file_are_one(saved, small_resnet):
    path = saved(small_resnet.state_dict(), "my.safetensors")
    same = [
        load_classifier(path, classes=ABC, **ARCH),
        load_classifier(str(path), classes=ABC, model_args=ARCH),
        load_classifier("timm:test_resnet/random", weights=path, classes=ABC, preprocess=SMALL),
        load_classifier(f"timm:test_resnet/{path}", classes=ABC, preprocess=SMALL),
    ]
    assert len({c.fingerprint for c in same}) == 1
    assert all(torch.equal(read(c)[1], read(same[0])[1]) for c in same)
    assert [c.source["name"].partition("/")[0] for c in same] == ["timm:test_resnet"] * 4


def test_without_classes_a_file_s_own_head_is_taken(saved, small_resnet):
    assert load_classifier(saved(small_resnet.state_dict()), **ARCH).classes == ("0", "1", "2")


def test_counters_of_batches_may_be_missing(saved, small_resnet):
    state = {k: v for k, v in small_resnet.state_dict().items() if "num_batches" not in k}
    close(
        read(load_classifier(saved(state), classes=ABC, **ARCH))[1],
        read(load_classifier(saved(small_resnet.state_dict()), classes=ABC, **ARCH))[1],
    )


def test_an_encoder_alone_is_taken_with_a_word(saved, small_resnet):
    state = {f"backbone.{k}": v for k, v in small_resnet.state_dict().items() if "fc" not in k}
    with pytest.warns(UserWarning, match=r"holds no head: a new one is drawn"):
        classifier = load_classifier(saved(state), classes=ABC, **ARCH)
    whole = load_classifier(saved(small_resnet.state_dict()), classes=ABC, **ARCH)
    assert torch.equal(read(classifier)[0], read(whole)[0])
    with pytest.raises(
        ModelError, match="no head of timm:test_resnet 'own'; there are auto, linear"
    ):
        quiet(saved(state), classes=ABC, head="own", **ARCH)


def test_a_head_for_other_classes_is_said_to_be_replaced(saved, small_resnet):
    with pytest.warns(UserWarning, match=r"a head of 3 outputs, not of 2: a new one is drawn"):
        classifier = load_classifier(saved(small_resnet.state_dict()), classes=ABC[:2], **ARCH)
    assert classifier.head.out_features == 2
    with pytest.raises(ModelError, match="3 outputs but 2 classes"):
        load_classifier(saved(small_resnet.state_dict()), classes=ABC[:2], head="own", **ARCH)


@pytest.mark.parametrize("name", ["head", "classifier", "fc.1", "classification_head"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_fitting_head_elsewhere_is_kept_and_told(saved, small_resnet, name, bias):
    state = {f"encoder.{k}": v for k, v in small_resnet.state_dict().items() if "fc" not in k}
    state[f"{name}.weight"] = weight = torch.randn(3, small_resnet.num_features)
    if bias:
        state[f"{name}.bias"] = torch.ones(3)
    with pytest.warns(UserWarning, match=rf"{name}\.weight is taken for a head W z \+ b"):
        classifier = load_classifier(saved(state), classes=ABC, **ARCH)
    z, logits = read(classifier)
    close(logits, z @ weight.T + float(bias))
    assert (classifier.head.bias is not None) == bias


def test_a_head_saved_beside_its_encoder_is_kept(saved, small_resnet):
    encoder = {k: v for k, v in small_resnet.state_dict().items() if "fc" not in k}
    head = {"weight": torch.randn(3, small_resnet.num_features), "bias": torch.ones(3)}
    with pytest.warns(UserWarning, match=r"clf\.weight is taken for a head"):
        classifier = load_classifier(saved({"net": encoder, "clf": head}), classes=ABC, **ARCH)
    assert torch.equal(classifier.head.weight, head["weight"])


def of_a_training_loop(state, average):
    """Checkpoints as people keep them, each with the weights that are meant."""
    moments = {"state": {0: {"exp_avg": torch.ones(4), "step": torch.tensor(3.0)}}}
    named = {"net.conv1.weight": {"exp_avg": torch.ones(4), "exp_avg_sq": torch.ones(4)}}
    inside = {f"net.{k}": v for k, v in state.items()}
    averaged = {f"ema_model.module.{k}": v for k, v in average.items()}
    return {
        "lightning": {"state_dict": inside, "optimizer_states": [moments], "loops": {}},
        "lightning, with its loss": {"state_dict": inside | {"loss.pos_weight": torch.ones(3)}},
        "plain loop": {"model_state_dict": state, "optimizer_state_dict": moments, "loss": torch.ones(())},
        "sharded optimizer": {"model": state, "optim": {"state": named}},
        "average first": {"ema": average, "model": state},
        "average inside": {"model": inside | averaged},
        "deepspeed": {"module": state, "buffer_names": ["a"], "ds_config": {"zero": 2}},
        "double": {k: v.double() if v.is_floating_point() else v for k, v in state.items()},
        "averaged by torch": {f"module.{k}": v for k, v in state.items()} | {"n_averaged": torch.ones(())},
    }  # fmt: skip


LOOPS = list(of_a_training_loop({}, {}))


@pytest.mark.parametrize("kind", LOOPS)
def test_checkpoints_of_training_loops_give_the_trained_weights(saved, small_resnet, kind):
    state = small_resnet.state_dict()
    average = {k: v + 1 for k, v in state.items()}
    classifier = quiet(saved(of_a_training_loop(state, average)[kind]), classes=ABC, **ARCH)
    with torch.inference_mode():
        close(read(classifier)[1], small_resnet(classifier.preprocess(IMAGE)[None]))


def not_what_is_needed(state, dim):
    """State dicts from which these weights can't be had, and what is told of each."""
    rest = {k: v for k, v in state.items() if "fc" not in k}
    square, row = torch.ones(dim, dim), torch.ones(3, dim)
    adapter = {f"base_model.model.layer1.0.conv1.lora_{n}.weight": square for n in "AB"}
    wrapped = {k.replace("conv1.weight", "conv1.base_layer.weight"): v for k, v in state.items()}
    return {
        "adapters alone": (adapter, "unexpected: base_model.*lora_A"),
        "adapters and a head": (
            adapter | {"base_model.model.fc.modules_to_save.weight": row},
            "unexpected: base_model.*lora_A",
        ),
        "adapters inside": (wrapped | adapter, r"unexpected: .*base_layer\.weight"),
        "weight norm": (rest | {"fc.weight_g": row[:, :1], "fc.weight_v": row}, r"fc\.weight_v"),
        "spectral norm": (
            rest | {"fc.parametrizations.weight.original": row},
            r"unexpected: fc\.parametrizations",
        ),
        "two layers": (
            rest | {"classifier.0.weight": square, "classifier.2.weight": row},
            r"unexpected: classifier\.0",
        ),
        "two heads": (state | {"aux.weight": row}, r"unexpected: aux\.weight"),
        "quantised": (
            {k: v.to(torch.int8) if v.ndim > 1 else v for k, v in state.items()},
            r"15 in whole numbers, as quantised ones are: conv1\.0\.weight",
        ),
        "folded": (
            {k: v for k, v in state.items() if "bn" not in k},
            r"missing: .*bn1\.running_mean",
        ),
        "flax": ({k.replace(".", "/"): v for k, v in state.items()}, "unexpected: conv1/0/weight"),
    }


@pytest.mark.parametrize("kind", list(not_what_is_needed({}, 1)))
def test_other_networks_weights_are_refused_by_name(saved, small_resnet, kind):
    state, told = not_what_is_needed(small_resnet.state_dict(), small_resnet.num_features)[kind]
    with pytest.raises(MismatchError, match=told):
        quiet(saved(state), classes=ABC, **ARCH)


def test_weights_of_a_training_that_diverged_are_told(saved, small_resnet):
    state = small_resnet.state_dict()
    state["fc.bias"] = state["fc.bias"] / 0 * 0
    with pytest.warns(UserWarning, match=r"numbers that are none \(NaN\) in fc\.bias"):
        classifier = load_classifier(saved(state), classes=ABC, **ARCH)
    features = Features(np.ones((2, classifier.dim)), [0, 1], ABC)
    with pytest.raises(MismatchError, match="the head of 'timm:test_resnet' gives NaN"):
        predict(classifier, features)


# Heads that were made for certain classes


SHAPES = ["circle", "square", "star"]


def named_sources(folder):
    """Classifiers for circles, squares and stars, each from a source and with its own head."""
    (folder / "my_shapes.py").write_text(
        "import torch\nfrom classvec_lab import load_classifier\n"
        f"def small(): return load_classifier('mlp', classes={SHAPES}, model_args={MLP}, seed=7)\n"
        f"def clip(): return load_classifier('tiny-clip', classes={SHAPES})\n"
    )
    base = load_classifier("mlp", classes=SHAPES, model_args=MLP, seed=7)
    torch.save(base.encoder.state_dict(), folder / "encoder.pt")
    yield base.head, "own", ("my_shapes:small",), {}
    clip = load_classifier("tiny-clip", classes=SHAPES)
    yield clip.head, "own", ("my_shapes:clip",), {}
    yield base.head, "arch", (folder / "encoder.pt",), {"arch": base}


MLP = {"size": 8, "hidden": [4], "dim": 3}


@pytest.mark.filterwarnings("ignore:.*holds an encoder alone")
@pytest.mark.parametrize("kind", range(3), ids=["function", "prompts", "encoder alone"])
def test_a_head_for_other_classes_does_not_pass_for_one(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    head, name, source, how = list(named_sources(tmp_path))[kind]
    told = r"knows circle, square, star, and a, b, c were asked for: a new one is drawn; .*head="
    with pytest.warns(UserWarning, match=told + f"'{name}'"):
        other = load_classifier(*source, classes=ABC, **how)
    assert type(other.head) is nn.Linear
    assert not torch.equal(other.head.weight, head.weight)
    for options in ({"classes": SHAPES}, {"classes": ABC, "head": name}):  # the same, or asked for
        assert torch.equal(quiet(*source, **options, **how).head.weight, head.weight)
    with pytest.raises(MismatchError, match="same names in another order"):
        quiet(*source, classes=SHAPES[::-1], **how)
    monkeypatch.delitem(sys.modules, "my_shapes", raising=False)


def test_a_file_s_head_is_taken_for_other_classes_than_its_architecture_s_with_a_word(saved):
    base = load_classifier("mlp", classes=SHAPES, model_args=MLP)
    trained = load_classifier("mlp", classes=ABC, model_args=MLP, seed=8)
    with pytest.warns(UserWarning, match="a, b, c were asked for: that of the file is taken"):
        loaded = load_classifier(saved(trained.state_dict()), arch=base, classes=ABC)
    assert torch.equal(loaded.head.weight, trained.head.weight)


class Odd(Net):
    def forward(self, x):
        return super().forward(x)[:, 0]


def test_networks_that_give_no_logits_are_named():
    with pytest.raises(ModelError, match=r"Odd fails on two images .* it gives shape \(2,\)"):
        Classifier.from_module(Odd(), classes=ABC, preprocess=SMALL)


def test_what_does_not_fit_is_listed_at_once_and_extras_are_named(saved, small_resnet):
    state = small_resnet.state_dict()
    state["stem.conv1.weight"], state["surplus"] = torch.zeros(2, 3), torch.zeros(2)
    del state["layer1.0.conv1.weight"]
    with pytest.raises(
        MismatchError, match=r"(?s)1 missing: layer1\.0\.conv1\.weight; 2? ?.*unexpected: .*surplus"
    ):
        load_classifier(saved(state), classes=ABC, **ARCH)
    state = {f"module.{k}": v for k, v in small_resnet.state_dict().items()} | {
        "n_averaged": torch.ones(2)
    }
    with pytest.warns(UserWarning, match="left out what the network lacks: n_averaged"):
        load_classifier(saved(state), classes=ABC, **ARCH)
    with pytest.raises(MismatchError, match="of another shape: conv1"):
        quiet(
            saved({"conv1.weight": torch.zeros(2), "fc.weight": torch.zeros(2)}),
            arch="torchvision:resnet18",
            preprocess=SMALL,
        )


def test_a_default_transform_is_said(saved, small_resnet):
    path = saved(small_resnet.state_dict())
    with pytest.warns(
        UserWarning, match=r"came without preprocessing, so timm:test_resnet's is used: .*160"
    ):
        load_classifier(path, arch="timm:test_resnet", classes=ABC)
    with pytest.raises(
        ModelError, match=r"preprocess needs size, mean and std; got \{'size': 32\}"
    ):
        load_classifier(path, arch="timm:test_resnet", preprocess={"size": 32})
    with pytest.raises(ModelError, match="no preprocessing of 'open_clip' can be made of"):
        load_classifier(path, arch="timm:test_resnet", preprocess={**SMALL, "sise": 3})


def test_files_without_an_architecture_say_what_to_write(saved, tmp_path):
    path = saved({"w": torch.ones(2)})
    with pytest.raises(
        ModelError,
        match=r"is a file of weights: pass its architecture.*arch='timm:resnet18'.*model_args",
    ):
        load_classifier(path)
    for arch in ("mlp", None):
        with pytest.raises(FileNotFoundError, match=r"no weights file at .*absent\.pt"):
            load_classifier(tmp_path / "absent.pt", arch=arch, classes=ABC)
    with pytest.raises(
        ModelError, match="timm:test_resnet is no file of weights, which arch='mlp'"
    ):
        load_classifier("timm:test_resnet", arch="mlp")


# A user's own network


def test_a_network_of_one_s_own_is_cut_and_left_alone():
    network = Net()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    classifier = Classifier.from_module(network, classes=ABC, preprocess=SMALL)
    assert network.training
    assert isinstance(network.fc, nn.Linear)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    z, logits = read(classifier)
    network.eval()
    with torch.inference_mode():
        x = classifier.preprocess(IMAGE)[None]
        close(z, network.features(x))
        close(logits, network(x))
    again = Net(seed=9)
    again.load_state_dict(state_dict_as_loaded(classifier))
    assert all(torch.equal(before[k], v) for k, v in again.state_dict().items())


class TwoNames(nn.Module):
    """Gives an object, as transformers does; its head is a class of its own."""

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Parameter(torch.randn(3, 12))

        def forward(self, z):
            return 16 * F.normalize(z, dim=-1) @ F.normalize(self.rows, dim=-1).T

    def __init__(self, kind=dict):
        super().__init__()
        self.base, self.score, self.kind = Net(), TwoNames.Head(), kind
        self.base.fc = nn.Identity()

    def forward(self, x):
        logits = self.score(self.base(x))
        return {"logits": logits} if self.kind is dict else (logits, x)


@pytest.mark.parametrize("kind", [dict, tuple])
def test_output_objects_and_heads_of_another_class(kind, tmp_path):
    torch.manual_seed(0)
    network = TwoNames(kind)
    classifier = Classifier.from_module(network, classes=ABC, preprocess=SMALL)
    assert isinstance(classifier.head, TwoNames.Head)
    assert classifier.dim == 12
    with torch.inference_mode():
        out = network.eval()(classifier.preprocess(IMAGE)[None])
    close(read(classifier)[1], out["logits"] if kind is dict else out[0])
    assert state_dict_as_loaded(classifier).keys() == network.state_dict().keys()


def sequential():
    torch.manual_seed(0)
    layers = (
        nn.Flatten(),
        nn.Linear(3072, 7),
        nn.ReLU(),
        nn.Sequential(nn.Dropout(), nn.Linear(7, 3)),
    )
    return nn.Sequential(*layers)


@pytest.mark.parametrize(("layer", "dim"), [(None, 7), ("3", 7), ("3.1", 7), ("2", 7), ("3.0", 7)])
def test_the_feature_layer_or_the_head_may_be_named(layer, dim):
    network = sequential().eval()
    classifier = Classifier.from_module(network, classes=ABC, preprocess=SMALL, layer=layer)
    z, logits = read(classifier)
    with torch.inference_mode():
        x = classifier.preprocess(IMAGE)[None]
        close(z, network[:3](x))
        close(logits, network(x))


class Softmaxed(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)


class Doubled(Net):
    def forward(self, x):
        z = self.features(x)
        return self.fc(z) + z[:, :3]


class Residual(Net):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(3, 3)

    def forward(self, x):
        z = self.features(x)
        return self.extra(self.fc(z) + z[:, :3])


def test_a_wrong_guess_is_impossible():
    of = {"classes": ABC, "preprocess": SMALL}
    for network in (Softmaxed(), Doubled()):
        with pytest.raises(ModelError, match=r"ends in no layer with weights.*softmax.*layer="):
            Classifier.from_module(network, **of)
        with pytest.raises(ModelError, match="nothing reads 'fc' alone and gives what"):
            Classifier.from_module(network, layer="fc", **of)
    with pytest.raises(ModelError, match="nothing reads 'conv' alone"):
        Classifier.from_module(Net(), layer="conv", **of)
    with pytest.raises(ModelError, match="no layer of Net 'fcc'; there are"):
        Classifier.from_module(Net(), layer="fcc", **of)
    classifier = Classifier.from_module(
        Residual(), **of
    )  # what `extra` reads is the representation
    assert classifier.dim == 3
    with pytest.raises(
        ModelError, match=r"Sequential fails on two images of 64 × 48 pixels \(RuntimeError: mat1"
    ):
        Classifier.from_module(sequential(), classes=ABC, preprocess={**SMALL, "size": 8})
    with pytest.raises(ModelError, match="3 outputs but 2 classes"):
        Classifier.from_module(Net(), classes=ABC[:2], preprocess=SMALL)


class Shared(nn.Module):
    """Its head reads each image twice."""

    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, x):
        return self.net(x) + self.net(x.flip(-1))


def test_a_head_that_is_not_all_is_refused():
    class Stacked(Net):
        def forward(self, x):
            return self.fc(self.features(x) + self.fc(self.features(x)).sum())

    with pytest.raises(ModelError, match="'fc' is not all that Stacked computes"):
        Classifier.from_module(Stacked(), classes=ABC, preprocess=SMALL)
    with pytest.raises(ModelError, match="ends in no layer"):
        Classifier.from_module(Shared(), classes=ABC, preprocess=SMALL)


class Compiled(nn.Module):
    """As torch.compile wraps a network, without its compiler."""

    def __init__(self, network):
        super().__init__()
        self._orig_mod = network


def test_wrapped_networks_are_unwrapped():
    expected = Net().state_dict().keys()
    for wrapped in (nn.DataParallel(Net()), Compiled(Net()), Compiled(nn.DataParallel(Net()))):
        classifier = Classifier.from_module(wrapped, classes=ABC, preprocess=SMALL)
        assert state_dict_as_loaded(classifier).keys() == expected


@pytest.mark.parametrize(
    "thing", [lambda x: x, Net().state_dict(), nn.utils.weight_norm, "my.pt", None], ids=lambda t: type(t).__name__
)  # fmt: skip
def test_what_is_no_network_is_told(thing):
    with pytest.raises(ModelError, match=r"from_module needs a network.*load_classifier\(FILE, ar"):
        Classifier.from_module(thing, classes=ABC, preprocess=SMALL)
    if not isinstance(thing, str):
        for call in (load_classifier, lambda it: load_classifier("mlp", weights=it or 3)):
            with pytest.raises(ModelError, match=r"by name or file, no .*Classifier\.from_module"):
                call(thing)


def test_names_are_no_number_and_heads_have_sizes():
    for call in (
        lambda: load_classifier("mlp", classes=3),
        lambda: Classifier.from_module(Net(), classes=3, preprocess=SMALL),
    ):
        with pytest.raises(ModelError, match=r"names, as dataset\.classes has them; got 3"):
            call()
    with pytest.raises(ModelError, match=r"of Sequential set head\.in_features = m"):
        Classifier(Net(), nn.Sequential(nn.Linear(12, 3)), classes=ABC, preprocess=SMALL)


MODULE = """
import torch
from torch import nn
from classvec_lab import Classifier

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2))

def build(size=16):
    how = {"size": size, "mean": [0.5] * 3, "std": [0.5] * 3}
    return Classifier.from_module(network(), classes=["cat", "dog"], preprocess=how)

def wrong():
    return network()

def failing():
    return 1 / 0
"""


@pytest.fixture
def my_module(tmp_path, monkeypatch):
    (tmp_path / "my_module_x.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "my_module_x"
    sys.modules.pop("my_module_x", None)


def test_a_function_of_one_s_own_is_a_source(my_module, saved, tmp_path):
    before = list(sys.path)
    classifier = load_classifier(f"{my_module}:build", model_args={"size": 20})
    assert sys.path == before
    assert classifier.classes == ("cat", "dog")
    assert classifier.preprocess(IMAGE).shape == (3, 20, 20)
    assert classifier.name == "my_module_x:build"
    state = {f"module.{k}": v + 1 for k, v in state_dict_as_loaded(classifier).items()}
    filled = load_classifier(saved(state), arch=f"{my_module}:build")
    assert all(
        torch.equal(v + 1, state_dict_as_loaded(filled)[k])
        for k, v in state_dict_as_loaded(classifier).items()
    )
    folder = filled.save(tmp_path / "saved")
    with pytest.raises(ModelError, match="pass encoder="):  # what a card names is never imported
        load_classifier(folder)
    again = load_classifier(folder, arch=f"{my_module}:build", classes=["cat", "dog"])
    assert torch.equal(read(again)[1], read(filled)[1])
    with pytest.raises(MismatchError, match="another order"):
        load_classifier(f"{my_module}:build", classes=["dog", "cat"])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("my_module_x:wrong", "my_module_x:wrong should give a Classifier, and gave Sequential"),
        ("my_module_x:failing", r"failed \(ZeroDivisionError: division by zero\)"),
        ("my_module_x:absent", r"failed \(AttributeError: module 'my_module_x' has no attribute"),
        (
            "no_such_module:build",
            r"no_such_module:build, a function of a module in .*No module named",
        ),
        ("opencilp:ViT-B-32", "no folder or model source 'opencilp:'; there are"),
    ],
)
def test_functions_that_fail_are_named(my_module, source, message):
    with pytest.raises(ModelError, match=message):
        load_classifier(source)


# Libraries


def test_torchvision_keeps_its_own_transforms_and_head(tmp_path, monkeypatch):
    from torchvision import models

    torch.manual_seed(0)
    network, weights = models.shufflenet_v2_x0_5().eval(), models.ShuffleNet_V2_X0_5_Weights.DEFAULT
    (tmp_path / "checkpoints").mkdir()
    torch.save(network.state_dict(), tmp_path / "checkpoints" / weights.url.rpartition("/")[2])
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    classifier = load_classifier("torchvision:shufflenet_v2_x0_5")
    assert classifier.classes[:2] == ("tench", "goldfish")
    x = weights.transforms()(IMAGE)
    assert torch.equal(classifier.preprocess(IMAGE), x)
    z, logits = read(classifier)
    with torch.inference_mode():
        close(logits, network(x[None]))
        network.fc = nn.Identity()
        close(z, network(x[None]))
    again = load_classifier(classifier.save(tmp_path / "saved"))
    assert again.fingerprint == classifier.fingerprint
    for source, message in {
        "torchvision:resnet19": "torchvision has no model 'resnet19'; nearest: resnet18",
        "torchvision:resnet18/V9": "no weights of resnet18 'V9'; there are , random, IMAGENET1K_V1",
    }.items():
        with pytest.raises(ModelError, match=message):
            load_classifier(source)


def test_heads_of_torchvision_are_found_wherever_they_are():
    from torchvision import models

    vit = models.VisionTransformer(32, 16, 1, 2, 16, 16, num_classes=3)
    classifier = Classifier.from_module(vit, classes=ABC, preprocess=SMALL)
    assert state_dict_as_loaded(classifier).keys() == vit.state_dict().keys()
    assert "heads.head.weight" in state_dict_as_loaded(classifier)
    classifier = load_classifier("torchvision:mnasnet0_5/random", classes=ABC, preprocess=SMALL)
    assert state_dict_as_loaded(classifier)["classifier.1.weight"].shape == (3, 1280)
    with pytest.raises(ModelError, match="ends in no layer with weights"):
        load_classifier("torchvision:squeezenet1_1/random", preprocess=SMALL)


@pytest.mark.parametrize(
    "name", ["test_vit", "test_convnext", "test_efficientnet", "test_mambaout"]
)
def test_timm_s_representation_is_that_before_its_logits(name):
    import timm

    classifier = load_classifier(f"timm:{name}/random", seed=4)
    torch.manual_seed(4)
    network = timm.create_model(name).eval()
    z, logits = read(classifier)
    with torch.inference_mode():
        x = classifier.preprocess(IMAGE)[None]
        close(z, network.forward_head(network.forward_features(x), pre_logits=True))
        close(logits, network(x))
    network.load_state_dict(state_dict_as_loaded(classifier))


def test_a_network_of_timm_whose_head_is_a_convolution_gives_its_features():
    classifier = load_classifier(
        "timm:resnetv2_50/random",
        classes=ABC,
        model_args={"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8), "stem_chs": 8},
        preprocess=SMALL,
    )
    assert read(classifier)[1].shape == (1, 3)
