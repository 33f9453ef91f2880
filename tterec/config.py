"""Settings, and where each came from."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from tterec import urls
from tterec.errors import ConfigError

HOME_VARIABLE = "TTEREC_HOME"
URL_VARIABLES = ("TTEREC_DATABASE_URL", "DATABASE_URL")
LOG_VARIABLE = "TTEREC_LOG_FORMAT"
LOG_FORMATS = ("text", "json")
SECRET_VARIABLES = ("PGPASSWORD", "PGSSLPASSWORD", "PGOAUTHCLIENTSECRET")
PG_VARIABLES = ("PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGSERVICE")


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting's name, its value as text with secrets masked, and where it came from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Target:
    """Which database is meant: a libpq URL or conninfo; None means the embedded server."""

    url: str | None
    origin: str

    def __repr__(self) -> str:  # tracebacks and logs show no password
        return f"Target({urls.mask_password(self.url or '')!r}, {self.origin!r})"


def home(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory of the embedded database and the caches. Raises ConfigError."""
    named = environ.get(HOME_VARIABLE)
    if named:
        try:
            return Path(named).expanduser().absolute()
        except RuntimeError:  # ~ of nobody
            raise ConfigError(
                f"{HOME_VARIABLE} {named!r} begins with the home of a user who is not there; write "
                "a path that begins with /"
            ) from None
    if sys.platform != "win32" and os.geteuid() == 0:
        # Postgres refuses to run as root, and the account that runs it has no way into /root.
        return Path("/var/lib/tterec")
    from platformdirs import user_data_path

    return user_data_path("tterec", appauthor=False)


def cache(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory of what can be made again: deleting it costs time only."""
    return home(environ) / "cache"


def torchrun_ranks(environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The rank of this process among those that torchrun has started, and how many there are.

    (0, 1) without torchrun. Raises ConfigError for numbers that cannot be.
    """
    given = environ.get("RANK", "0"), environ.get("WORLD_SIZE", "1")
    if "RANK" not in environ or "WORLD_SIZE" not in environ:
        return 0, 1
    if not all(re.fullmatch("[0-9]{1,6}", text) for text in given) or int(given[0]) >= int(
        given[1]
    ):
        raise ConfigError(
            f"RANK = {given[0]} of WORLD_SIZE = {given[1]} cannot be; both are torchrun's: unset "
            "them, or start with torchrun --standalone --nproc-per-node N -m tterec train"
        )
    return int(given[0]), int(given[1])


def log_format(flag: str | None = None, environ: Mapping[str, str] = os.environ) -> str:
    """How stderr is written: by flag, else by the environment, else `text`. Raises ConfigError."""
    named = flag or environ.get(LOG_VARIABLE) or LOG_FORMATS[0]
    if named not in LOG_FORMATS:
        raise ConfigError(f"{LOG_VARIABLE} {named!r} is unknown; write {' or '.join(LOG_FORMATS)}")
    return named


def settings(flag: str | None = None, environ: Mapping[str, str] = os.environ) -> list[Setting]:
    """Every setting as it stands: the database, the home, and what training would start from."""
    try:
        target = database_target(flag, environ)
        url = "(the PG* variables)" if target.url == "" else target.url
        found = [Setting("database", urls.mask_password(url or "(embedded)"), target.origin)]
    except ConfigError as error:  # this is where other messages send people: it must not fail
        found = [Setting("database", f"unusable: {error}", "see the value")]
    place = HOME_VARIABLE if environ.get(HOME_VARIABLE) else "default"
    try:
        found.append(Setting("home", str(home(environ)), place))
    except ConfigError as error:
        found.append(Setting("home", f"unusable: {error}", place))
    place = LOG_VARIABLE if environ.get(LOG_VARIABLE) else "default"
    found.append(Setting("log_format", environ.get(LOG_VARIABLE) or LOG_FORMATS[0], place))
    for name in sorted(name for name in environ if re.fullmatch(r"PG[A-Z]+", name)):
        # A URL in PGDATABASE is a mistake, and its password a secret.
        value = "***" if name in SECRET_VARIABLES else urls.mask_password(environ[name])
        found.append(Setting(name, value, "environment"))
    training = TrainingConfig()
    for field in fields(TrainingConfig):
        value = str(getattr(training, field.name))
        found.append(Setting(f"training.{field.name}", value, "default"))
    return found


def database_target(flag: str | None = None, environ: Mapping[str, str] = os.environ) -> Target:
    """Decide which database is meant, by precedence: flag, environment, PG* variables, embedded.

    The URL "" stands for the PG* variables: libpq reads them itself. Raises ConfigError for a
    URL that libpq would misread.
    """
    if flag:
        return Target(urls.libpq_url(flag, "--database-url"), "--database-url")
    for name in URL_VARIABLES:
        if environ.get(name):
            return Target(urls.libpq_url(environ[name], name), name)
    named = [name for name in PG_VARIABLES if environ.get(name)]
    if named:
        if "://" in environ.get("PGDATABASE", ""):  # the server would repeat it, password and all
            raise ConfigError("PGDATABASE is the name of a database; put the URL in DATABASE_URL")
        return Target("", " ".join(named))
    return Target(None, "default")


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """The settings of `tterec train`; each can stand in train.toml under its own name.

    The figures that chose a default are NDCG@20 over all items on 20% of the interactions of
    users with at least 5, held out: of Book-Crossing's explicit ratings of books with at least 5
    (the core) unless said otherwise, and of a generated dense set (181,000 interactions of 4,000
    users with 3,000 items); RMSE on the same. Two runs that differ by seed differ by .001.

    From popular_negatives to initialisation the figures are of one seed only, without the second
    stage, and of smaller sets: a core of 79,900 ratings, where the defaults have .0749, and a dense
    set of 25,400 interactions of 1,000 users with 1,000 items, where they have .2429 (and
    with other seeds .2407 and .2484). Nothing there beat the defaults, so all of it is off.
    """

    objective: str = "softmax"
    """softmax (sampled: each other's items are a batch's negatives), full-softmax (all items are),
    triplet or bpr, all of which learn which item comes next, on unit vectors; or mse, which learns
    the rating: inner product = rating. On the smaller sets described above, core and dense,
    softmax had .0749 and .2429, full-softmax .0747 and .2228 in three times the time, bpr .0618
    and .2385, triplet .0601 (before its negatives were weighted) and .2211."""
    margin: float = 0.2
    """Triplet only: by how much a target shall score above its negatives, in cosines."""
    dim: int = 64
    """Dimensions of the embedding space. 128 gave NDCG@20 .068 where 64 gave .0745."""
    epochs: int = 20
    """At most this many passes over the interactions. Real data needed 2 or 3, dense ones 4 to 7;
    with mse 3 to 9."""
    patience: int = 3
    """Stop after this many epochs in a row without a better validation figure."""
    batch_size: int = 2048
    """Interactions a step, fewer where there are few; with softmax, their items are each other's
    negatives. 4,096 takes twice the time for an interaction and learned no better."""
    uniform_negatives: float = 0.5
    """Softmax, triplet and bpr: for every interaction of a batch, this many items are drawn
    uniformly from the catalogue and added to its negatives, or rare items would never be any.
    0, .25, .5 and 1 gave .072, .075, .0745, .075 on the core, and .25, .5 and 1 .052, .055, .054
    on all books."""
    popular_negatives: float = 0.0
    """For every interaction, this many items more are drawn in proportion to their interactions to
    the power of popularity_power. .5 gave .0728 on the core and .2395 on the dense set."""
    popularity_power: float = 0.75
    """See popular_negatives; 1 draws as interactions do, 0 every item that has any alike."""
    similar_negatives: float = 0.0
    """For every interaction, this many items more are drawn that share an author, a category or a
    rare word of the title with its item (hard negatives that stay what they are). .5 gave .0739
    and .2388."""
    mining: str = "none"
    """Which candidates are negatives: none (all are), hard (the `mined` that score highest) or
    semi-hard (the `mined` that score highest below the target). Triplet always takes semi-hard
    ones but when told hard. Hard gave .0729 and .2387, semi-hard .0730 and .2359."""
    mined: int = 100
    """See mining."""
    mining_gap: float = 0.05
    """Semi-hard only: a negative scores less than the target by at least this, in cosines: what
    scores as high may well be liked."""
    optimiser: str = "adagrad"
    """adagrad, adamw, nadam or sparseadam. At a step size of .003, adamw gave .0710 and .2339,
    nadam .2351 on the dense set, sparseadam .0723 and .2347."""
    schedule: str = "constant"
    """constant, linear or cosine: how the step size falls, to 0 after `epochs`. With three
    seeds constant gave .2429, .2407 and .2484 on the dense set, cosine with 8 epochs .2446, .2407
    and .2472."""
    warmup: float = 0.0
    """The step size rises from 0 in this many epochs. 1 gave .2348 on the dense set."""
    initialisation: str = "random"
    """How items' own embeddings start: random or spectral (singular vectors of the interactions).
    Spectral gave .0718 on the core and .2364 on the dense set, but after one epoch instead of 4."""
    learning_rate: float = 0.01
    """Step size of Adagrad. On dense tastes .01, .02 and .03 gave .2688, .2670 and .264, on
    Book-Crossing the same; with mse .01 and .02 an RMSE of 1.536 and 1.542."""
    weight_decay: float = 0.1
    """Not with mse: decoupled; a step shrinks embeddings by learning_rate times this. .03, .1, .3
    and 1 gave .0750, .0752, .0737 and .067."""
    gamma: float = 0.001
    """MSE only: the factor of the regulariser gamma (J(user tower) + J(item tower)) in the loss,
    over the parameters that a batch reads. .0003, .001 and .003 gave an RMSE of 1.576, 1.542 and
    1.541 on the core; on dense tastes .0001, .001 and .003 gave 1.255, 1.261 and 1.272."""
    regulariser: str = "l2"
    """MSE only: J is l1 (sum of magnitudes) or l2 (sum of squares)."""
    temperature: float = 0.1
    """Softmax and bpr: where the learned temperature starts. .05, .1 and .2 gave .071, .074 and
    .073."""
    id_shrinkage: float = 1.0
    """An item's own embedding counts n / (n + this), n its interactions; its content the rest.
    0 and 5 gave .075 and .073: what matters is that items nobody met have no embedding of their
    own, which holds for all of them."""
    id_dropout: float = 0.3
    """Share of a batch's items that are met by content alone, so that new items are embedded.
    0, .1, .3 and .5 gave .0727, .074, .0757 and .073 on the core, .1 and .3 .2505 and .2580 on
    dense tastes. Not with mse: an RMSE of 1.5484 and 1.5478 (0 and .3) on the core, but 1.331 and
    1.338 on dense tastes, 1.483 and 1.489 on ratings alone."""
    rating_power: float = 2.0
    """A rated interaction weighs (rating / 10) to this power, 0: all the same; not with mse. With
    ratings of 7 and more as relevant, 0, 1 and 2 gave .0741, .0755 and .0758 on the core, .348,
    .366 and .373 on MovieLens 100k, and .208 and .214 (0 and 1) and, of another seed, .211, .219
    and .222 on a generated set of ratings alone; with the second stage .0922, .0909 and .0923,
    .410, .410 and .411, and .228, .231 and .233."""
    max_history: int = 200
    """How many of a user's interactions count, newest first."""
    ranker: bool = True
    """Whether to fit a second stage, which is kept where it does better on validation."""
    validation_users: int = 2000
    """At most this many users lend one interaction each to validation."""
    threads: int = 0
    """CPU threads of torch; 0 chooses the fastest by trial."""
    device: str = "cpu"
    """cpu or cuda."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"{name} {value!r} is unknown; choose {' or '.join(choices)}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:  # NaN is out of every range
                raise ConfigError(f"{name} = {value} is out of range; choose {low} to {high}")


_CHOICES = {
    "objective": ("softmax", "full-softmax", "mse", "triplet", "bpr"),
    "mining": ("none", "hard", "semi-hard"),
    "optimiser": ("adagrad", "adamw", "nadam", "sparseadam"),
    "schedule": ("constant", "linear", "cosine"),
    "initialisation": ("random", "spectral"),
    "regulariser": ("l1", "l2"),
    "device": ("cpu", "cuda"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "dim": (2, 2000),  # HNSW holds up to 2,000 dimensions of `vector`
    "epochs": (1, 10_000),
    "patience": (1, 10_000),
    "batch_size": (2, 2**20),
    "margin": (0.0, 2.0),
    "uniform_negatives": (0.0, 100.0),
    "popular_negatives": (0.0, 100.0),
    "popularity_power": (0.0, 2.0),
    "similar_negatives": (0.0, 100.0),
    "mined": (1, 1_000_000),
    "mining_gap": (0.0, 2.0),
    "warmup": (0.0, 10_000.0),
    "learning_rate": (1e-7, 10.0),
    "weight_decay": (0.0, 100.0),
    "gamma": (0.0, 1e6),
    "temperature": (0.01, 10.0),
    "id_shrinkage": (0.0, 1e6),
    "id_dropout": (0.0, 0.9),
    "rating_power": (0.0, 100.0),
    "max_history": (1, 100_000),
    "validation_users": (0, 10_000_000),
    "threads": (0, 1024),
    "seed": (0, 2**63 - 1),
}


def choices(name: str) -> tuple[str, ...]:
    """The values of a training setting that has only a few."""
    return _CHOICES[name]
