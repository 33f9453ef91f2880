"""`tterec cluster`: clusters of books, for lists by cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import stops

if TYPE_CHECKING:
    from tterec.records import ClusterMethod


@click.command("cluster")
@click.option(
    "--method",
    type=click.Choice(["kmeans", "gmm"]),
    default="kmeans",
    show_default=True,
    help="K-means, or a Gaussian mixture with diagonal covariances.",
)
@click.option(
    "--clusters",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many. Default: where the curve of inertia or BIC bends most, from 2 to 128.",
)
@database_option
def command(*, method: ClusterMethod, clusters: int | None, database_url: str | None) -> None:
    """Cluster the live generation's book vectors, and store the clusters with it.

    They serve tterec recommend --strategy cluster-kmeans and cluster-gmm. Clusters that were
    stored before, by the same method, are replaced. Needs pip install 'tterec[cluster]'.

    \b
    Examples:
      tterec cluster
      tterec cluster --method gmm --clusters 25
    """
    import numpy as np

    from tterec import clustering
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    with stops("no clusters were stored"), progress_on_stderr() as progress:
        generation, found = clustering.cluster(database, method, clusters, progress)
    sizes = np.bincount(found.labels, minlength=len(found.centres))
    click.echo(
        f"Generation {generation}: {len(found.item_ids):,} books in {len(sizes)} clusters by "
        f"{method}, of {sizes.min():,} to {sizes.max():,} books"
    )
    click.echo(f"Try: tterec recommend USER --strategy cluster-{method}")
