"""A logger of the kind of W&B's and MLflow's: it sends things away and keeps no folder."""

from lightning.pytorch.loggers.logger import Logger


class RemoteLogger(Logger):
    """Keeps what it is sent in lists of its class; ``experiment`` has no method of TensorBoard."""

    metrics, checkpoints, parameters = [], [], []
    experiment = object()

    def __init__(self, project: str = "demo"):
        super().__init__()
        self.project = project

    @property
    def name(self):
        return self.project

    @property
    def version(self):
        return "l72318dq"

    def log_metrics(self, metrics, step=None):
        self.metrics.append(metrics)

    def log_hyperparams(self, params, *args, **kwargs):
        self.parameters.append(params)

    def after_save_checkpoint(self, checkpoint_callback):
        self.checkpoints.append(checkpoint_callback.best_model_path)
