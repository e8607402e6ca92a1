"""A SLURM of two nodes on this machine: munged, slurmctld and two slurmd, in a folder and on ports of their own.

Needs root and Debian's slurm-wlm and munge; touches nothing below /etc.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL"}

# cred_expire is also how long a requeued job waits: 120 s by default, 5 at the least. MinJobAge keeps ended jobs for
# scontrol. With config_overrides the nodes have what is said of them, and the batch scripts run as they are.
CONFIG = """\
ClusterName=hybatch
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool_%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd_%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd_%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,preempt_send_user_signal
SlurmdParameters=config_overrides
SlurmdTimeout=6
KillWait=5
MinJobAge=3600
ReturnToService=2
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_n1} CPUs=8 RealMemory=100000 Gres=gpu:1
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={port_n2} CPUs=8 RealMemory=100000 Gres=gpu:1
PartitionName=normal Nodes=n1,n2 Default=YES PriorityTier=1 GraceTime=60
PartitionName=urgent Nodes=n1,n2 PriorityTier=2 PreemptMode=OFF
"""


def why_unavailable() -> str | None:
    """What keeps a cluster from starting here; None: nothing."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install slurm-wlm munge"
    return "starting SLURM's daemons needs root" if os.geteuid() != 0 else None


@contextlib.contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start a cluster whose files lie in `folder`; stop all its processes at the end, whatever happened."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Cluster:
    """The daemons and what a test asks of them.

    Attributes:
        environment: for programs that talk to this cluster.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        folder.chmod(0o755)
        self._folder = folder
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        # The batch scripts run the `python` that they find, as that of an environment that was activated.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        ports = dict(zip(("controller_port", "port_n1", "port_n2"), _free_ports(3), strict=True))
        host = socket.gethostname().split(".")[0]
        (self._folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=self._folder, **ports))
        (self._folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
        (self._folder / "state").mkdir()
        self._start_munge()
        self._start("slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)
        wait_until(self._is_ready, "both nodes are idle", 30, self._outputs)

    def stop(self) -> None:
        """End the daemons, then what is left of jobs."""
        for daemon in reversed(self._daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._kill_processes_of("n1", "n2")

    def start_node(self, node: str) -> None:
        self._start(f"slurmd_{node}", "-D", "-N", node, program="slurmd", SLURMD_NODENAME=node)

    def kill_node(self, node: str) -> None:
        """Let a node die as in a power cut: its daemon and all that it runs, without a word to the controller."""
        daemon = self._daemons.pop(f"slurmd_{node}")
        daemon.kill()
        daemon.wait()
        self._kill_processes_of(node)

    def node_state(self, node: str) -> str:
        return self._field(self.run("scontrol", "show", "node", node, "--oneliner", check=False), "State")

    def submit(self, *arguments: str, **variables: str) -> str:
        """sbatch; returns the job's id."""
        return self.run("sbatch", "--parsable", *arguments, **variables).strip()

    def job(self, job: str, field: str) -> str:
        """A field of `scontrol show job`, "" where it has none: JobState, Restarts, ExitCode ..."""
        return self._field(self.run("scontrol", "show", "job", job, "--oneliner", check=False), field)

    def wait_for(self, job: str, seconds: float) -> str:
        """Wait until a job has ended for good; return its state."""
        wait_until(lambda: self.job(job, "JobState") in ENDED, f"job {job} has ended", seconds, self.status)
        return self.job(job, "JobState")

    def status(self) -> str:
        """What the cluster is doing, for messages."""
        return self.run("squeue", "--long", check=False) + self.run("sinfo", "--long", "--Node", check=False)

    def run(self, *command: str, check: bool = True, **variables: str) -> str:
        """Run a program of SLURM, or one that calls it, from the current folder; return what it printed."""
        finished = subprocess.run(
            command, env=self.environment | variables, text=True, capture_output=True, timeout=60, check=False
        )
        if check and finished.returncode:
            raise RuntimeError(f"{' '.join(command)} returned {finished.returncode}: {finished.stderr}")
        return finished.stdout

    def _is_ready(self) -> bool:
        for name, daemon in self._daemons.items():
            if daemon.poll() is not None:
                raise RuntimeError(f"{name} ended by itself:\n{self._outputs()}")
        return all(self.node_state(node) == "IDLE" for node in NODES)

    def _outputs(self) -> str:
        files = sorted(self._folder.glob("*.out"))
        return "".join(f"{path.name}:\n{path.read_text(encoding='utf-8', errors='replace')}" for path in files)

    def _start_munge(self) -> None:
        key = self._folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        files = {"socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log", "seed-file": "munge.seed"}
        options = [f"--{option}={self._folder / name}" for option, name in files.items()]
        self._start("munged", "--foreground", "--force", f"--key-file={key}", *options)
        wait_until((self._folder / "munge.socket").exists, "munge answers", 20)

    def _start(self, name: str, *options: str, program: str = "", **variables: str) -> None:
        with open(self._folder / f"{name}.out", "ab") as output:
            self._daemons[name] = subprocess.Popen(
                [program or name, *options],
                env=self.environment | variables,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _kill_processes_of(self, *nodes: str) -> None:
        """SIGKILL every process whose environment says that it belongs to this cluster and one of the nodes.

        SLURM sets SLURMD_NODENAME for jobs; the daemons that run these inherit it from their slurmd.
        """
        for process in _processes():
            if any(self._belongs_to(process, node) for node in nodes):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process.name), signal.SIGKILL)

    def _belongs_to(self, process: Path, node: str) -> bool:
        try:
            variables = process.joinpath("environ").read_bytes().split(b"\0")
        except OSError:
            return False
        config = f"SLURM_CONF={self._folder / 'slurm.conf'}".encode()
        return config in variables and f"SLURMD_NODENAME={node}".encode() in variables

    @staticmethod
    def _field(text: str, name: str) -> str:
        found = [word.partition("=")[2] for word in text.split() if word.startswith(f"{name}=")]
        return found[0] if found else ""


def wait_until(
    condition: Callable[[], object], what: str, seconds: float, describe: Callable[[], str] = lambda: ""
) -> None:
    """Poll until `condition()` holds.

    Raises:
        TimeoutError: it does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}\n{describe()}")
        time.sleep(0.3)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _processes() -> Iterator[Path]:
    return (path for path in Path("/proc").iterdir() if path.name.isdigit())
