"""Hashes see all that decides a result, nothing else, and refuse what can't be seen through."""

import copy
import functools
import os
import subprocess
import sys
import textwrap
import types

import numpy as np
import pytest
import torch
from conftest import CLASSES, REPOSITORY, coloured, small_classifier
from torch import nn

from classvec_lab import Classifier, CosineHead, Edit, Gate, extract_features, finetune, inject
from classvec_lab.datasets.torchvision_repair import ensure_torchvision
from classvec_lab.files import cache_dir
from classvec_lab.models import Preprocess, fingerprint
from classvec_lab.models.classifier import held
from classvec_lab.models.fingerprint import Unidentified, digest, release
from classvec_lab.models.training import model_key

PREPROCESS = Preprocess("open_clip", {"size": 8})
NET = """
    import math
    import torch
    from torch import nn
    from torch.nn import functional as F

    RATE = 0.5
    TABLE = {"a": [1, 2], "b": (3.0, None)}
    SHIFT = torch.ones(2)

    def helper(x, power=2, *, sign=1.0):
        return sign * x**power

    def make(factor):
        return lambda x: x * factor

    class Base(nn.Module):
        gain = 3.0

        def extra(self, x):
            return x + 1

        @property
        def bias(self):
            return 0.25

        @staticmethod
        def shift(x):
            return x - SHIFT.sum()

    class Net(Base):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inner = nn.Linear(192, 6)
            self.scale = 1.0
            self.chosen = ["x", ("y", 2)]
            self.seen = {"one", "two", "three", "four"}
            self.scaled = make(2.0)
            self.register_buffer("offset", torch.zeros(6), persistent=False)

        def forward(self, x):
            z = self.inner(x.flatten(1)) * self.scale + self.offset
            z = [helper(self.extra(part)) for part in (z,)][0] * math.pi
            if "one" in {"one", "two", "three"} and TABLE["a"][0] == 1:
                z = self.scaled(z) * RATE * self.gain + self.bias
            return self.shift(F.relu(z))
"""


def cell(source: str, name: str = "cell", after: str = "", lines: int = 0) -> types.SimpleNamespace:
    """What a notebook's cell defines, run in a module of its own."""
    space = {"__name__": "__main__", "__package__": None}
    code = "\n" * lines + textwrap.dedent(source) + "\n" + after
    exec(compile(code, f"<{name}>", "exec"), space)
    return types.SimpleNamespace(**space)


def net(source: str = NET, **options) -> str:
    return digest(net=cell(source, **options).Net())


def test_the_same_cell_run_again_gives_the_same():
    assert net() == net(name="another", lines=7)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("F.relu(z)", "F.gelu(z)"),
        ("F.relu(z)", "F.relu(F.relu(z))"),
        ("x + 1", "x + 2"),
        ("gain = 3.0", "gain = 3.5"),
        ("return 0.25", "return 0.5"),
        ("x - SHIFT", "x + SHIFT"),
        ("SHIFT = torch.ones(2)", "SHIFT = torch.ones(3)"),
        ("RATE = 0.5", "RATE = 0.25"),
        ('"b": (3.0, None)', '"b": (3.0, 0)'),
        ("power=2", "power=3"),
        ("sign=1.0", "sign=-1.0"),
        ("sign * x**power", "sign * x + power"),
        ("make(2.0)", "make(4.0)"),
        ("x * factor", "x / factor"),
        ('("y", 2)', '("y", 3)'),
        ('"four"', '"five"'),
        ("torch.zeros(6)", "torch.ones(6)"),
        ("self.scale = 1.0", "self.scale = 2.0"),
        ("math.pi", "math.tau"),
        ('"two", "three"} and', '"two"} and'),
        ("import math", "import cmath as math"),
        ("manual_seed(0)", "manual_seed(1)"),
    ],
)
def test_code_attributes_and_what_code_reads_count(old, new):
    assert NET.count(old) == 1
    assert net() != net(NET.replace(old, new))


@pytest.mark.parametrize(
    "after",
    [
        "Net.forward = lambda self, x: x.flatten(1)",
        "Net.extra = Base.extra",
        "F = nn.functional.__class__('F'); F.relu = torch.sigmoid",
        "helper.power = 3",
    ],
)
def test_what_is_put_in_later_counts_too(after):
    with_it = "helper.power" in after or "Net.extra" in after
    changed = net(after=after)
    assert changed != net()
    assert changed == net(after=after), with_it


def test_names_that_no_code_reads_do_not_count():
    assert net() == net(after="data = (i for i in ()); scale = 5; x = object()")


def test_an_instance_s_own_method_and_late_attributes_count():
    base = cell(NET).Net()
    prints = {digest(net=base)}
    base.scale = 2.0
    prints.add(digest(net=base))
    base.scale = np.float64(2.0)
    base.masks = [np.arange(3), torch.arange(3)]
    prints.add(digest(net=base))
    base.masks[0][1] = 7
    prints.add(digest(net=base))
    base.masks[1][1] = 7
    prints.add(digest(net=base))
    base.forward = types.MethodType(lambda self, x: x, base)
    prints.add(digest(net=base))
    base.forward = types.MethodType(lambda self, x: -x, base)
    prints.add(digest(net=base))
    base.offset += 1
    prints.add(digest(net=base))
    assert len(prints) == 8
    base.train()
    base.requires_grad_(False)
    assert digest(net=base) in prints


def test_the_order_of_sets_does_not_count_and_that_of_mappings_does():
    names = [f"name {i}" for i in range(50)]
    turned = names[::-1]
    assert digest(x=set(names)) == digest(x=set(turned)) != digest(x=set(names[1:]))
    assert digest(x=frozenset(names)) != digest(x=set(names))
    assert digest(x={"a": 1, "b": 2}) != digest(x={"b": 2, "a": 1})


def test_other_processes_give_the_same(tmp_path):
    script = tmp_path / "run.py"
    lines = (
        "from classvec_lab.models.fingerprint import digest",
        "from classvec_lab.models.preprocess import Preprocess",
        "print(digest(net=Net()), digest(x=Preprocess('open_clip', {'size': 8})))",
    )
    script.write_text(textwrap.dedent(NET) + "\n".join(lines))
    told = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", script],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        told.add(done.stdout)
    assert len(told) == 1
    assert told.pop().split() == [net(), digest(x=PREPROCESS)]


class Turn:
    """A preprocessing with an attribute, whose pickle leaves it out."""

    def __init__(self, angle, also=None):
        self.angle, self.also = angle, also

    def __call__(self, image):
        return PREPROCESS(image.rotate(self.angle))

    def turned(self, image):
        return self(image)

    def __getstate__(self):
        return {}

    def __getattr__(self, name):  # passes for what it holds
        return getattr(PREPROCESS, name)


def closure(value):
    def preprocess(image):
        return PREPROCESS(image).mul(value)

    return preprocess


def keyword(image, *, factor=1.0):
    return PREPROCESS(image) * factor


def scripted(source):
    return cell(f"from torchvision import transforms as T\nt = {source}\ndef f(im): return t(im)").f


def preprocessings():
    ensure_torchvision()
    from torchvision import transforms as T
    from torchvision.transforms import functional as TF

    other = copy.copy(keyword)
    other = types.FunctionType(keyword.__code__, keyword.__globals__)
    other.__kwdefaults__ = {"factor": 2.0}
    return {
        "defaults": (keyword, other),
        "closure": (closure(1.0), closure(2.0)),
        "closed array": (closure(np.zeros(3)), closure(np.ones(3))),
        "lambda": (lambda im: TF.hflip(im), lambda im: TF.vflip(im)),
        "global": (scripted("T.RandomCrop(3)"), scripted("T.RandomCrop(4)")),
        "partial": (functools.partial(keyword, factor=1), functools.partial(keyword, factor=2)),
        "method": (Turn(90).turned, Turn(180).turned),
        "object": (Turn(90), Turn(180)),
        "object of objects": (Turn(0, also=Turn(1)), Turn(0, also=Turn(2))),
        "subclass": (Turn(90), type("Turn", (Turn,), {"__call__": lambda self, im: im})(90)),
        "compose": (T.Compose([T.Resize(8), T.ToTensor()]), T.Compose([T.Resize(9), T.ToTensor()])),
        "steps": (T.Compose([T.ToTensor()]), T.Compose([T.PILToTensor()])),
        "lambda in compose": (
            T.Compose([T.ToTensor(), T.Lambda(lambda x: x * 2)]),
            T.Compose([T.ToTensor(), T.Lambda(lambda x: x * 3)]),
        ),
        "ours": (PREPROCESS, Preprocess("open_clip", {"size": 9})),
        "library": (PREPROCESS, Preprocess("timm", {"size": 8})),
    }


@pytest.mark.parametrize("name", list(preprocessings()))
def test_preprocessings_are_told_apart_and_known_again(name):
    first, second = (
        small_classifier(preprocess=function).fingerprint for function in preprocessings()[name]
    )
    again = small_classifier(preprocess=preprocessings()[name][0]).fingerprint
    assert None not in (first, second)
    assert first == again != second


def test_a_used_preprocessing_hashes_as_a_new_one():
    used, other = (Preprocess("open_clip", {"mean": (0.5,) * 3, "size": 8}) for _ in range(2))
    used(coloured(1)[0][0])
    restored = Preprocess("open_clip", {"size": 8, "mean": [0.5] * 3})
    assert digest(x=used) == digest(x=other) == digest(x=restored)


def test_features_of_an_edited_encoder_are_extracted_anew():
    data, found = coloured(), []
    for source in (NET, NET.replace("x + 1", "x + 2"), NET):
        encoder = cell(source).Net()
        classifier = Classifier(
            encoder, nn.Linear(6, 3), classes=CLASSES, preprocess=small_classifier().preprocess
        )
        found.append(extract_features(classifier, data, progress=False))
        encoder.scale = 2.0
        found.append(extract_features(classifier, data, progress=False))
    assert len({f.model for f in found}) == len({f.z.tobytes() for f in found}) == 4
    assert (found[0].z == found[4].z).all()
    assert len(list(cache_dir("features").iterdir())) == 4


def test_libraries_are_known_by_name_and_version(tmp_path, monkeypatch):
    assert release("torch") == f"torch {torch.__version__}"
    assert release("PIL").startswith("pillow ")
    assert release("json") == release("sys") == f"python {sys.version.split()[0]}"
    assert release("classvec_lab") is release("__main__") is release("no_such_module") is None
    (tmp_path / "statistics_of_mine.py").write_text("def f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert release("statistics_of_mine") is None
    monkeypatch.delitem(sys.modules, "statistics_of_mine", raising=False)


def test_modules_of_one_s_own_are_read_as_they_are_loaded(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine.py").write_text("import numpy as np\nRATE = 2\ndef f(x): return np.abs(x)\n")
    import mine

    inside = "def f(x):\n    import mine\n    return mine.f(x)"
    for source in ("import mine\ndef f(x): return mine.f(x)", inside):
        monkeypatch.setattr(mine, "RATE", 2)
        before = digest(f=cell(source).f)
        assert before == digest(f=cell(source).f)
        monkeypatch.setattr(mine, "RATE", 3)
        assert digest(f=cell(source).f) != before
    monkeypatch.delitem(sys.modules, "mine")


def test_a_library_s_class_that_was_tampered_with_is_told_apart(monkeypatch):
    before = digest(x=nn.Sequential(nn.ReLU()))
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x.sin())
    assert digest(x=nn.Sequential(nn.ReLU())) != before


@pytest.mark.parametrize(
    "wrap",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.orthogonal,
    ],
)
def test_parametrized_layers_are_hashed(wrap):
    def make(seed=0):
        torch.manual_seed(seed)
        return nn.Sequential(wrap(nn.Linear(4, 4))).eval()

    first = make()
    assert digest(x=first) == digest(x=make()) != digest(x=make(1))
    assert digest(x=first) != digest(x=nn.Sequential(nn.Linear(4, 4)))
    with torch.no_grad():
        next(first.parameters()).add_(1)
    assert digest(x=first) != digest(x=make())


def test_networks_of_libraries_are_hashed():
    ensure_torchvision()
    import timm
    from torchvision.models import resnet18

    def make(build, seed=0):
        torch.manual_seed(seed)
        return build()

    for build in (
        lambda: nn.LSTM(2, 3),
        lambda: nn.TransformerEncoderLayer(8, 2),
        resnet18,
        lambda: timm.create_model("test_vit", num_classes=0),
        lambda: timm.create_model("test_efficientnet", num_classes=0),
    ):
        assert digest(x=make(build)) == digest(x=make(build)) != digest(x=make(build, 1))


def nested(depth):
    inner = []
    for _ in range(depth):
        inner = [inner]
    return inner


def circle():
    inside = []
    inside.append(inside)
    return inside


OPAQUE = {
    "file": lambda: sys.__stdout__,
    "generator": lambda: (i for i in range(3)),
    "nothing": object,
    "extension": torch._C.Graph,
    "circle": circle,
    "deep": lambda: nested(100_000),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_can_not_be_seen_through_is_named_once_and_not_cached(name, monkeypatch):
    monkeypatch.setattr(fingerprint, "TOLD", set())
    thing, data = OPAQUE[name](), coloured()
    attribute, preprocess = small_classifier(), small_classifier(preprocess=closure(thing))
    attribute.encoder[3].odd = thing
    for classifier, where in (
        (attribute, r"features are not cached: encoder\.3\.odd can't be hashed"),
        (preprocess, r"features are not cached: preprocess\.value can't be hashed"),
    ):
        with pytest.raises(Unidentified, match="can't be hashed"):
            digest(**classifier.representation)
        assert classifier.fingerprint is None
        key = functools.partial(fingerprint.cache_key, "features", classifier, [data])
        with pytest.warns(UserWarning, match=where):
            assert key() is None
        assert key() is None  # and says it no more


def injected(**gate):
    given = {"score": "margin", "weight": np.eye(3, 6), "bias": np.zeros(3), "threshold": 0.5}
    edit = Edit.along("e", np.ones(6), target="red", classes=CLASSES)
    return inject(small_classifier(), edit.gated(Gate("red", CLASSES, **(given | gate))))


def key_of(classifier):
    return model_key(1, classifier, (coloured(),), {})


def test_gates_of_an_injected_head_count():
    variants = ({}, {"threshold": 0.6}, {"temperature": 0.1}, {"rivals": True}, {"normalise": True})
    keys = [key_of(injected(**changes)) for changes in variants]
    assert None not in keys
    assert len(set(keys)) == len(variants)
    assert key_of(injected()) == keys[0]
    assert len({injected(**changes).fingerprint for changes in variants}) == 1


def test_a_trained_model_s_key_sees_head_code_and_what_is_trained(monkeypatch):
    monkeypatch.setattr(fingerprint, "TOLD", set())
    frozen, hooked = small_classifier(), small_classifier()
    frozen.encoder[1].requires_grad_(False)
    cosine = small_classifier()
    cosine.head = CosineHead(torch.ones(3, 6), 1.0)
    edited = small_classifier()
    edited.head.forward = types.MethodType(lambda self, z: -nn.Linear.forward(self, z), edited.head)
    classifiers = [small_classifier(), frozen, cosine, edited]
    keys = {key_of(classifier) for classifier in classifiers}
    assert None not in keys
    assert len(keys) == 4
    assert len({classifier.fingerprint for classifier in classifiers}) == 1
    hooked.head.register_forward_hook(lambda *args: None)
    with pytest.warns(UserWarning, match=r"trained models are not cached: head .*hooks"):
        assert key_of(hooked) is None


def test_training_sees_an_attribute_that_the_encoder_reads():
    encoder = cell(NET).Net()
    classifier = Classifier(
        encoder, nn.Linear(6, 3), classes=CLASSES, preprocess=small_classifier().preprocess
    )
    options = {"epochs": 1, "lr": 1e-2, "progress": False}
    first = finetune(classifier, coloured(), **options)
    encoder.scale = 0.0
    second = finetune(classifier, coloured(), **options)
    assert not first.history.equals(second.history)
    assert len(list(cache_dir("models").iterdir())) == 2


def large(seed=0, dtype=torch.float32):
    """An encoder of 4 MB or more, whose hash is remembered."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(1100, 1000)).to(dtype)


def roll(weight):
    weight.data.copy_(weight.data.roll(1, dims=0))


def swap(weight, axis):
    index = [1, 0, *range(2, weight.shape[axis])]
    weight.data.copy_(weight.data.index_select(axis, torch.tensor(index)))


def exchange(weight):
    flat = weight.data.view(-1)
    flat[[3, 500_000]] = flat[[500_000, 3]]


WRITES = {
    "in place": lambda net: net[1].weight.data.mul_(2),
    "under no_grad": lambda net: torch.no_grad()(lambda: net[1].weight.add_(1))(),
    "copy_": lambda net: torch.no_grad()(lambda: net[1].weight.copy_(large(1)[1].weight))(),
    "load_state_dict": lambda net: net.load_state_dict(large(1).state_dict()),
    "through data": lambda net: net[1].weight.data[7, 9].add_(1e-3),
    "last element": lambda net: net[1].weight.data.view(-1)[-1].neg_(),
    "through numpy": lambda net: net[1].weight.detach().numpy().__setitem__((5, 6), 1.0),
    "numpy, all signs": lambda net: np.negative(*[net[1].weight.detach().numpy()] * 2),
    "negated": lambda net: net[1].weight.data.neg_(),
    "row negated": lambda net: net[1].weight.data[3].neg_(),
    "column negated": lambda net: net[1].weight.data[:, 3].neg_(),
    "rows swapped": lambda net: swap(net[1].weight, 0),
    "columns swapped": lambda net: swap(net[1].weight, 1),
    "rows rolled": lambda net: roll(net[1].weight),
    "elements exchanged": lambda net: exchange(net[1].weight),
    "data replaced": lambda net: setattr(net[1].weight, "data", large(1)[1].weight.data),
    "parameter replaced": lambda net: setattr(net[1], "weight", large(1)[1].weight),
    "module replaced": lambda net: net.__setitem__(1, large(1)[1]),
    "small one": lambda net: net[1].bias.data[0].add_(1),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        (name, dtype)
        for dtype in (torch.float32, torch.float64, torch.bfloat16)
        for name in WRITES
        if dtype != torch.bfloat16 or "numpy" not in name
    ],
)
def test_a_remembered_hash_is_never_stale(name, dtype):
    encoder = large(dtype=dtype)
    before = digest(x=encoder)
    assert digest(x=encoder) == before
    WRITES[name](encoder)
    after = digest(x=encoder)
    assert after != before
    assert after == digest(x=copy.deepcopy(encoder))


def test_single_changes_anywhere_are_seen():
    encoder, rng = large(), np.random.default_rng(0)
    weight = encoder[1].weight.detach().numpy().reshape(-1)
    prints = [digest(x=encoder)]
    for place in rng.integers(0, len(weight), 40):
        weight[place] = np.nextafter(weight[place], np.inf)
        prints.append(digest(x=encoder))
    assert len(set(prints)) == len(prints)


def test_an_unchanged_network_is_hashed_once(monkeypatch):
    encoder, hashed = large(), []

    def count(*parts):
        hashed.append(sum(len(part) for part in parts))
        return real(*parts)

    real = fingerprint.hash_bytes
    monkeypatch.setattr(fingerprint, "hash_bytes", count)
    digest(x=encoder)
    first = sum(hashed)
    hashed.clear()
    digest(x=encoder)
    assert first > 4_400_000 > 4 * sum(hashed)
    hashed.clear()
    assert digest(x=copy.deepcopy(encoder)) == digest(x=encoder)
    assert sum(hashed) > 4_400_000


def test_tensors_of_all_kinds_are_hashed():
    base = torch.arange(12.0).reshape(3, 4)
    kinds = [
        base, base.double(), base.bfloat16(), base.half(), base.to(torch.complex64), base.int(),
        base.bool(), base.reshape(4, 3), base.T, torch.tensor(3.0), torch.zeros(0),
        torch.zeros(0, 2), base.to(torch.complex64).conj() * 1j, nn.Parameter(base),
    ]  # fmt: skip
    prints = [digest(x=tensor) for tensor in kinds]
    assert len(set(prints)) == len(prints)
    assert digest(x=base.t().contiguous().t()) == prints[0]
    with torch.inference_mode():
        assert digest(x=torch.arange(12.0).reshape(3, 4)) == prints[0]
    with pytest.raises(Unidentified):
        digest(x=torch.zeros(3, device="meta"))


def test_a_fingerprint_is_held_only_as_long_as_asked():
    one, other = small_classifier(), small_classifier(seed=1)
    before, outside = one.fingerprint, other.fingerprint
    with held(one):
        assert one.fingerprint == before
        with torch.no_grad():
            for classifier in (one, other):
                next(classifier.encoder.parameters()).add_(1.0)
        assert one.fingerprint == before
        assert other.fingerprint != outside  # another one isn't held
        assert copy.deepcopy(one).fingerprint != before  # nor a copy
    assert one.fingerprint != before
