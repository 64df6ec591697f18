"""Every figure of the package, drawn from made-up tables of any number of classes."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from conftest import coloured, small_classifier
from test_collapse_plots import curves as collapse_table
from test_collapse_plots import history
from test_verdict_plots import report as verdict_report

from classvec_lab import (
    ClassVectors,
    Features,
    class_interpolation,
    class_vectors,
    cross_task_linearity,
    extract_features,
    latent_paths,
    orthogonality,
    path_order,
    plots,
)
from classvec_lab.diagnostics.linearity import additivity, cyclic_shift, scaling, weight_path
from classvec_lab.plots.audit import METRICS as METRIC_COLUMNS
from classvec_lab.statistics import mean_interval

LONG = ("speed_limit_100", "no_entry_for_vehicles_over_3.5t", "priority_road", "stop")
NAMES = {
    10: tuple(map(str, range(10))),
    43: tuple(f"{LONG[i % 4]}_{i}" for i in range(43)),
}
SHARES = ["acc_f", "acc_r", "false_fire", "worst_sibling"]
TITLE = "open_clip:ViT-B-16/openai on german_traffic_signs, test split, 3 seed(s)"
SETTINGS = [  # method, family, gate, chosen, lambda_, mean ACC_f, ACC_r, share of targets at 0
    ("fine-tuned", "reference", "none", False, np.nan, 0.98, 0.98, 0),
    ("pre-trained", "reference", "none", False, np.nan, 0.08, 0.06, 0.3),
    ("retrained without it", "reference", "none", False, np.nan, 0, 0.98, 1),
    ("logit mask", "trivial", "none", False, np.nan, 0, 0.981, 1),
    ("class vector", "latent edit", "margin", True, -1.05, 0.03, 0.98, 0.9),
    ("class vector", "latent edit", "margin", False, -1.0, 0.2, 0.98, 0.6),
    ("class vector", "latent edit", "none", True, -0.9, 0.25, 0.96, 0.5),
    ("class vector", "latent edit", "cosine", True, -1.05, 0.03, 0.97, 0.9),
    ("class vector", "latent edit", "predicted", True, -1.05, 0.02, 0.981, 0.95),
    ("z_ft - μ", "latent edit", "margin", False, -1.05, 0, 0.98, 1),
    ("head direction", "latent edit", "margin", False, -1.05, 0, 0.97, 1),
    ("random vector", "latent edit", "margin", False, -1.05, 0.97, 0.975, 0),
    ("head-aware class vector", "latent edit", "predicted", False, np.nan, 0, 0.98, 1),
    ("mapping, class vector", "weight mapping", "none", True, -1.12, 0, 0.982, 1),
    ("mapping, retired to the mean", "weight mapping", "none", False, np.nan, 0, 0.98, 1),
    ("mapping, retired and scattered", "weight mapping", "none", False, np.nan, 0, 0.975, 1),
    ("projection", "eraser", "none", False, np.nan, 0, 0.981, 1),
    ("LEACE", "eraser", "none", False, np.nan, 0.05, 0.982, 0.7),
    ("fine-tuned on the rest", "training", "none", False, np.nan, 0.9, 0.96, 0),
    ("NegGrad", "training", "none", False, np.nan, 0.03, 0.93, 0.7),
    ("NegGrad+", "training", "none", False, np.nan, 0, 0.96, 1),
    ("random label", "training", "none", False, np.nan, 0.05, 0.965, 0.7),
]
METRICS = {  # split, a typical value of the unedited, and of the retrained model
    "ACC_f": ("test", 0.97, 0.0),
    "ACC_r": ("test", 0.98, 0.981),
    "routing JS": ("test", 0.9, 0.0),
    "probe": ("test", 0.97, 0.92),
    "MIA": ("train", 1.0, 0.12),
    "CKA to retrained": ("test", 0.87, 1.0),
    "ZRF": ("test", 0.28, 0.4),
}


def study(names, seeds=3):
    rng, rows = np.random.default_rng(0), []
    for m, family, gate, chosen, lambda_, acc_f, acc_r, at_zero in SETTINGS:
        n = len(names) * seeds
        f = np.clip(rng.normal(acc_f / max(1 - at_zero, 0.1), 0.08, n), 0.02, 1).round(2)
        f[rng.random(n) < at_zero] = 0
        frame = pd.DataFrame(
            {"target": np.repeat(names, seeds), "seed": np.tile(range(seeds), n // seeds)}
        )
        frame["acc_f"], frame["acc_r"] = f, np.clip(rng.normal(acc_r, 0.006, n), 0, 1).round(3)
        rows.append(
            frame.assign(method=m, family=family, gate=gate, chosen=chosen, lambda_=lambda_)
        )
    return pd.concat(rows, ignore_index=True)


def with_ends(row, name, values):
    mean, low, high = mean_interval(np.asarray(values))
    row |= {name: mean, f"{name}_low": max(low, 0), f"{name}_high": min(high, 1)}


def summary(table):
    rows = []
    for key, part in table.groupby(["method", "family", "gate", "chosen"], sort=False):
        row = dict(zip(("method", "family", "gate", "chosen"), key, strict=True))
        row |= {"lambda_": part["lambda_"].mean(), "n": len(part), "unit": "targets"}
        with_ends(row, "acc_f", part["acc_f"])
        with_ends(row, "acc_r", part["acc_r"])
        worst = part.loc[part["acc_f"].idxmax()]
        row |= {"worst_acc_f": worst["acc_f"], "worst_target": worst["target"]}
        rows.append(row)
    return pd.DataFrame(rows)


def strength(names):
    rng, lambdas = np.random.default_rng(1), np.array([0, -0.5, -1, -1.5, -2, -3, -5])
    parts = []
    for gate in ("none", "margin", "predicted"):
        for t in names:
            f = np.clip(1 + lambdas * rng.uniform(0.5, 1.5), 0, 1)
            r = np.clip(0.98 + 0.2 * (gate == "none") * lambdas * rng.random(), 0, 1)
            part = pd.DataFrame({"lambda_": lambdas, "acc_f": f, "acc_r": r})
            parts.append(part.assign(gate=gate, target=t, seed=0))
    return pd.concat(parts, ignore_index=True)


def thresholds(names):
    rng, parts = np.random.default_rng(2), []
    for split in ("val", "test"):
        for t in names:
            at = rng.normal(0, 0.2)
            grid = np.sort(rng.normal(at, 0.6, 60))
            part = pd.DataFrame({"threshold": grid, "false_fire": np.linspace(1, 0, 60) ** 6})
            part["miss"] = np.linspace(0, 1, 60) ** 8
            part = part.assign(target=t, split=split, score="margin", chosen=np.arange(60) == 30)
            parts.append(part)
    return pd.concat(parts, ignore_index=True)


def gates(names):
    rng, rows = np.random.default_rng(3), []
    for gate in ("cosine", "margin", "discriminant", "predicted", "margin, Youden", "margin, soft"):
        for split in ("val", "test"):
            row = {"gate": gate, "split": split, "n": 3 * len(names), "unit": "targets"}
            for name, middle in (("acc_f", 0.002), ("acc_r", 0.981), ("false_fire", 0.006)):
                with_ends(row, name, np.clip(rng.normal(middle, 0.004, 3 * len(names)), 0, 1))
            rows.append(row | {"worst_sibling": rng.uniform(0.02, 0.25)})
    return pd.DataFrame(rows)


def amounts(names):
    rng, groups = (
        np.random.default_rng(5),
        {f"class {names[1]}": (1, 0.05, 37), "other classes": (0, 0.05, 900)},
    )
    groups["german_traffic_signs_at_night"] = (0.2, 0.2, 300)
    return pd.concat(
        [
            pd.DataFrame({"mapping": m, "group": g, "amount": rng.normal(mean, sd, n)})
            for m in ("shrinkage 0.01", "shrinkage 0.99")
            for g, (mean, sd, n) in groups.items()
        ],
        ignore_index=True,
    )


def routes(names, methods):
    rng, parts = np.random.default_rng(6), []
    for m in methods:
        share = rng.dirichlet(np.full(len(names), 0.15))
        parts.append(
            pd.DataFrame({"class": names, "share": share, "n": 40, "method": m, "target": names[0]})
        )
    return pd.concat(parts, ignore_index=True)


AUDITED = (
    "fine-tuned", "logit mask", "class vector", "head-aware class vector",
    "mapping, class vector", "mapping, retired to the mean", "mapping, retired and scattered",
    "LEACE", "NegGrad+",
)  # fmt: skip


def audits(names, seeds=3):
    rng, rows = np.random.default_rng(7), []
    for k, method in enumerate(AUDITED):
        for target in names:
            for seed in range(seeds):
                for metric, (split, original, retrained) in METRICS.items():
                    value = original + (retrained - original) * min(k, 1) * rng.uniform(0.5, 1)
                    value = float(np.clip(value + rng.normal(0, 0.02), 0, 1))
                    row = {"metric": metric, "split": split, "value": value, "n": 36}
                    row |= {"low": max(value - 0.1, 0), "high": min(value + 0.1, 1)}
                    row |= {"original": original, "retrained": retrained}
                    rows.append(row | {"method": method, "target": target, "seed": seed})
    return pd.DataFrame(rows)


def audit_means(table):
    wide, columns = [], {m: column for m, (_, column) in METRIC_COLUMNS.items()}
    for method, own in table.groupby("method", sort=False):
        row = {"method": method, "n": 3, "unit": "trainings"}
        for metric, part in own.groupby("metric"):
            with_ends(row, columns[metric], part.groupby("seed")["value"].mean())
        wide.append(row)
    return pd.DataFrame(wide)


def changes(names, seed=0):
    values = np.random.default_rng(seed).normal(0, 0.3, (len(names),) * 2).clip(-1, 1) ** 3
    np.fill_diagonal(values, -1)
    return pd.DataFrame(values, pd.Index(names, name="edited"), names)


def runs():
    rng, rows = np.random.default_rng(8), []
    cells = [(c, 12) for c in (2, 3, 5, 10, 20, 43)] + [(43, 1), (43, 4)]
    for d in ("digits", "german_traffic_signs_at_night"):
        for c, e in cells:
            for draw in range(3):
                row = {"dataset": d, "n_classes": c, "epochs": e, "draw": draw}
                value = -1 / (c - 1) + 0.1 * rng.normal()
                row |= {"off_diagonal": value, "low": value - 0.05, "high": value + 0.05}
                row |= {"expected": value + 0.02, "shown": rng.uniform(), "refuted": 0.1}
                row |= {"entries_sd": 0.2, "null_sd": 0.3, "shift_ratio": rng.uniform(0, 6)}
                row |= {"delta": 0.1}
                rows.append(row | {"explained": rng.uniform(0.7, 1), "nc1": rng.uniform(0, 3)})
    return pd.DataFrame(rows)


def run_means(table):
    keys = ["dataset", "n_classes", "epochs"]
    rows = [
        (*key, m, *mean_interval(own[m].to_numpy()), len(own))
        for key, own in table.groupby(keys, sort=False)
        for m in ("shown", "entries_sd", "shift_ratio", "explained", "nc1")
    ]
    return pd.DataFrame(rows, columns=[*keys, "measure", "mean", "low", "high", "n_runs"])


def cosines(names):
    rng, y = np.random.default_rng(9), np.repeat(np.arange(len(names)), 12)
    pre, ft = (
        Features(m[y] + 0.8 * rng.normal(size=(len(y), 64)), y, list(names))
        for m in rng.normal(size=(2, len(names), 64))
    )
    vectors = ClassVectors.from_features(pre, ft)
    return orthogonality(vectors, features=(pre, ft), n_boot=50)


def accuracies(names):
    rng, rows = np.random.default_rng(10), []
    for model, middle in (("pre-trained", 0.2), ("fine-tuned", 0.97)):
        for name in (*names, "all"):
            value = float(np.clip(rng.normal(middle, 0.1), 0, 1))
            row = {"class": name, "n": 36, "accuracy": value, "model": model}
            rows.append(row | {"low": max(value - 0.1, 0), "high": min(value + 0.1, 1)})
    return pd.DataFrame(rows)


def points(names, n=600):
    rng = np.random.default_rng(11)
    y, means = rng.integers(len(names), size=n), 4 * rng.normal(size=(len(names), 2))
    frame = pd.DataFrame(means[y] + rng.normal(size=(n, 2)), columns=["pc1", "pc2"])
    frame["class"] = pd.Categorical.from_codes(y, names)
    frame.attrs["explained"] = [0.34, 0.3]
    return frame


def per_class(names):
    rng, runs = np.random.default_rng(12), ("cosine head, pre-trained", "cosine head, fine-tuned")
    n = len(names)
    parts = [
        pd.DataFrame(
            {
                "class": names,
                "variance": rng.uniform(5, 60, n),
                "cdnv": rng.uniform(0.05, 3, n),
                "self_duality_centred": rng.uniform(-0.5, 1, n),
                "run": run,
            }
        )
        for run in runs
    ]
    return pd.concat(parts, ignore_index=True)


def effect(names):
    rng, n = np.random.default_rng(13), len(names)
    frame = pd.DataFrame({"class": names, "n": 36, "before": rng.uniform(0.9, 1, n)})
    frame["after"] = np.where(frame.index == 0, 0, frame["before"] - 0.01)
    frame["random"] = frame["before"]
    grid = np.linspace(-1, 1, 21)
    gate = pd.DataFrame({"threshold": grid, "miss": np.linspace(0, 1, 21) ** 3, "score": "margin"})
    gate = gate.assign(false_fire=np.linspace(1, 0, 21) ** 3, worst=np.linspace(1, 0, 21))
    curves = pd.DataFrame({"factor": np.linspace(0, 5, 11), "n_f": 36, "n_r": 323})
    curves = curves.assign(acc_f=np.linspace(1, 0, 11), acc_r=0.98)
    for c in ("acc_f", "acc_r"):
        curves[f"{c}_low"], curves[f"{c}_high"] = curves[c] - 0.0, curves[c]
    return frame, gate, curves


class World:
    """Two small networks of these classes, and what the figures of linearity take from them."""

    def __init__(self, names):
        self.names = names
        self.pre, self.ft = (small_classifier(names, seed=s) for s in (0, 1))
        self.data = coloured(6 * len(names), classes=names)
        kept = {"cache": False, "progress": False}
        self.features = extract_features(self.ft, self.data, **kept)
        self.vectors = class_vectors(self.pre, self.ft, self.data, **kept)
        self.path = weight_path(self.pre, self.ft, self.data, alphas=(0, 0.5, 1))

    def paths(self):
        how = {"alphas": (0, 0.5, 1), "weight": self.path}
        return latent_paths(self.path[0.0], self.vectors, self.ft, **how)

    def order(self):
        models = {f"first task, seed {s}": small_classifier(self.names, seed=s) for s in (1, 2)}
        return path_order(self.pre, models, dict.fromkeys(models, self.data))

    def layers(self):
        return cross_task_linearity(self.pre, self.ft, self.data, layers="blocks", progress=False)

    def pair(self):
        return class_interpolation(self.ft, self.features, self.vectors, *self.names[:2])

    def of(self, measure):
        return measure(self.ft, self.features, self.vectors)


def _first(axes):
    return np.ravel(axes)[0].figure


def figures(names) -> dict:
    """Name to a callable that draws the figure."""
    table, report, world = study(names), cosines(names), World(names)
    film = history(len(names))
    for frame in (film.points, film.means2d):
        frame["class"] = frame["class"].cat.rename_categories(list(names))
    changed, gate, curve = effect(names)
    audit = audits(names)
    one = audit[(audit["target"] == names[0]) & (audit["seed"] == 0)]
    several = runs()
    verdicts = [
        verdict_report(light, names, VERDICT, name="open_clip:ViT-B-16/openai on signs")
        for light in ("green", "red")
    ]
    for v in verdicts:
        v.routes = lambda: routes(names, ("retrained without it", "fine-tuned", *AUDITED[1:]))
    p = plots
    drawn = {
        "trade_off": lambda: p.trade_off(table, title=TITLE),
        "method_intervals": lambda: p.method_intervals(summary(table), title=TITLE),
        "strength_curves": lambda: p.strength_curves(strength(names), title=TITLE),
        "gate_curves": lambda: p.gate_curves(thresholds(names), title=TITLE),
        "by_share": lambda: p.by_condition(
            gates(names), value=SHARES, row="gate", by="split", title=TITLE
        ),
        "displacement_strips": lambda: p.displacement_strips(amounts(names), title=TITLE),
        "routing_bars": lambda: p.routing_bars(
            routes(names, ("retrained without it", *AUDITED)), target=names[0], title=TITLE
        ),
        "collateral_maps": lambda: p.collateral_maps(
            {
                way: changes(names, seed)
                for seed, way in enumerate(
                    ("without a gate", "behind the gate 'margin'", "written into the weights")
                )
            },
            title=TITLE,
        ),
        "audit_dots": lambda: p.audit_dots(one, title=TITLE),
        "audit_means": lambda: p.audit_dots(audit, audit_means(audit), title=TITLE),
        "heatmap": lambda: p.heatmap(
            report.cosine,
            limit=1,
            mark=report.expected,
            marked=report.significant("cosine"),
            title=f"cos(κ_c, z_ft^c'): {TITLE}",
        ),
        "heatmap_shares": lambda: p.heatmap(
            changes(names).abs(), centre=None, limit=1, label="share", title=TITLE
        ),
        "histogram": lambda: p.histogram(report, title=TITLE),
        "entries": lambda: p.entries(report.table(largest=10_000), title=TITLE),
        "departures": lambda: p.departures(report.assumptions, title=TITLE),
        "sample_sheet": lambda: p.sample_sheet(world.data, title=TITLE),
        "accuracy_bars": lambda: p.accuracy_bars(accuracies(names), title=TITLE),
        "scatter_map": lambda: p.scatter_map(points(names), title=TITLE),
        "collapse_curves": lambda: p.collapse_curves(collapse_table(epochs=30), title=TITLE),
        "collapse_bars": lambda: p.collapse_bars(per_class(names), title=TITLE),
        "collapse_map": lambda: p.collapse_map(film, title=TITLE),
        "over_class_counts": lambda: p.over_class_counts(several, title=TITLE),
        "over_epochs": lambda: p.over_epochs(several, run_means(several)),
        "edit_effect": lambda: p.edit_effect(
            changed, edited=names[:1], gate=gate, threshold=0.1, strength=curve, at=1.5, title=TITLE
        ),
        "deviation_curves": lambda: p.deviation_curves(world.layers(), title=TITLE),
        "deviation_by_layer": lambda: p.deviation_by_layer(world.layers(), title=TITLE),
        "order_scatter": lambda: p.order_scatter(world.order(), title=TITLE),
        "over_path": lambda: p.over_path(world.paths(), title=TITLE),
        "over_path, deviation": lambda: p.over_path(world.paths(), value="deviation", title=TITLE),
        "class_shift": lambda: p.class_shift(world.pair(), at=0.3, title=TITLE),
        "scaling_curves": lambda: p.scaling_curves(world.of(scaling), title=TITLE),
        "adding_curves": lambda: p.adding_curves(world.of(additivity), title=TITLE),
        "shift_bars": lambda: p.shift_bars(world.of(cyclic_shift), title=TITLE),
        "by_condition": lambda: p.by_condition(
            conditions(names).query("lambda_ == -1"), title=TITLE
        ),
        "by_one_condition": lambda: p.by_condition(
            conditions(names).query("lambda_ == -1 and condition == 'conflict'"), title=TITLE
        ),
        "over_strength": lambda: p.over_strength(
            conditions(names).query("condition in ('conflict', 'true word', 'clean')"), title=TITLE
        ),
        "over_strength_of_four": lambda: p.over_strength(
            conditions(names).query("condition not in @names"), title=TITLE
        ),
        "condition_sheet": lambda: p.sample_sheet(
            {"clean": world.data, names[-1]: world.data}, title=TITLE
        ),
        "verdict_page": lambda: SimpleNamespace(figure=p.verdict_page(verdicts[0])),
        "verdict_pair": lambda: SimpleNamespace(figure=p.verdict_pair(*verdicts)),
    }
    return {name: lambda draw=draw: _first(draw()) for name, draw in drawn.items()}


def conditions(names):
    """Methods under conditions, as the applications file them, at several strengths."""
    rng, rows = np.random.default_rng(7), []
    methods = {
        "unedited": "reference", "κ of class and word": "class known", "router": "deployed",
        "κ in LayerNorms, last_2_blocks, if snow": "deployed", "linear map in the weights": "deployed",
        "random direction, if snow": "control", "router, κ of snow": "control",
    }  # fmt: skip
    for condition in ("conflict", "true word", "blank paper", "clean", *names[:2]):
        for lambda_ in (-2.0, -1.0, 0.0, 0.5):
            for method, setting in methods.items():
                row = {"condition": condition, "method": method, "setting": setting}
                with_ends(row, "accuracy", np.clip(rng.normal(0.8, 0.1, 3), 0, 1))
                rows.append(row | {"lambda_": lambda_})
    return pd.DataFrame(rows)


VERDICT = [(m, f, g, c, v, x) for m, f, g, c, v, x, *_ in SETTINGS]
