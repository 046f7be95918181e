"""The flags of ingress-nginx's own command line, so that its Deployment's arguments can stay as they are.

Those that mean something here are options of `lbcore ingress` under the same names. Go's booleans may have a value
(`--enable-metrics=true`), and what has no meaning for us is taken and named once in the log.
"""

from __future__ import annotations

from typing import Any

import click

__all__ = ["IGNORED", "OldFlags"]

# What is taken and has no effect, and why.
IGNORED: dict[str, str] = {
    "add_dir_header": "see --log-format",
    "alsologtostderr": "logs go to standard output",
    "apiserver-host": "the kubeconfig says where the API server is",
    "certificate-authority": "the kubeconfig says whom to trust",
    "bucket-factor": "buckets are ingress-nginx's own",
    "deep-inspect": "no text of a manifest becomes a directive",
    "default-server-port": "what nobody serves is answered at the same ports",
    "disable-full-test": "there is no admission webhook",
    "disable-sync-events": "Events are written where something is wrong, and not for each change",
    "dynamic-configuration-retries": "there is nothing to repeat: the newest table is served",
    "enable-annotation-validation": "annotations are always parsed to closed types",
    "enable-ssl-chain-completion": "a chain is served as its Secret has it",
    "enable-ssl-passthrough": "not supported",
    "enable-topology-aware-routing": "not supported: all ready endpoints are used",
    "exclude-socket-metrics": "not supported",
    "health-check-timeout": "the answer is known without asking nginx",
    "internal-logger-address": "logs go to standard output",
    "length-buckets": "buckets are ingress-nginx's own",
    "log_backtrace_at": "see --log-level",
    "log_dir": "logs go to standard output",
    "log_file": "logs go to standard output",
    "log_file_max_size": "logs go to standard output",
    "logtostderr": "logs go to standard output",
    "max-buckets": "buckets are ingress-nginx's own",
    "maxmind-edition-ids": "not supported",
    "maxmind-license-key": "not supported",
    "maxmind-mirror": "not supported",
    "maxmind-retries-count": "not supported",
    "maxmind-retries-timeout": "not supported",
    "metrics-per-host": "hosts are those of Ingresses, and always told apart",
    "metrics-per-undefined-host": "hosts that no Ingress has are not told apart",
    "monitor-max-batch-size": "there are no batches",
    "one_output": "logs go to standard output",
    "profiler-address": "there is no profiler",
    "profiler-port": "there is no profiler",
    "profiling": "there is no profiler",
    "report-status-classes": "statuses are told as they are",
    "size-buckets": "buckets are ingress-nginx's own",
    "skip_headers": "see --log-format",
    "skip_log_headers": "see --log-format",
    "ssl-passthrough-proxy-port": "not supported",
    "stderrthreshold": "see --log-level",
    "status-port": "nginx is asked at a socket of its own",
    "stream-port": "what is told to nginx goes to a socket of its own",
    "sync-period": "the API server is watched",
    "sync-rate-limit": "see --reload-interval",
    "time-buckets": "buckets are ingress-nginx's own",
    "v": "see --log-level",
    "validating-webhook": "there is no admission webhook",
    "validating-webhook-certificate": "there is no admission webhook",
    "validating-webhook-key": "there is no admission webhook",
    "vmodule": "see --log-level",
}
_SWITCHES = frozenset(
    {
        "add_dir_header", "alsologtostderr", "logtostderr", "one_output", "skip_log_headers",
        "deep-inspect", "disable-full-test", "disable-sync-events", "enable-annotation-validation",
        "enable-ssl-chain-completion", "enable-ssl-passthrough",
        "enable-topology-aware-routing", "metrics-per-host", "metrics-per-undefined-host",
        "profiling", "report-status-classes", "skip_headers",
    }
)  # fmt: skip
_TRUE, _FALSE = {"1", "t", "true"}, {"0", "f", "false"}


class OldFlags(click.Command):
    """A command that takes Go's spelling of booleans, and flags without effect; `context.obj` lists those given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite what Go's flags look like to what click knows."""
        ignored: list[str] = []
        ctx.obj = ignored
        return super().parse_args(ctx, self._rewritten(args, ignored))

    def _rewritten(self, args: list[str], ignored: list[str]) -> list[str]:
        switches = {name: each for each in self.params if _is_switch(each) for name in each.opts}
        made: list[str] = []
        rest = iter(args)
        for arg in rest:
            name, equals, value = arg.partition("=")
            bare = name.lstrip("-")
            if name.startswith("-") and bare in IGNORED and not self._knows(name):
                ignored.append(bare)
                if not equals and bare not in _SWITCHES:
                    next(rest, None)
            elif equals and name in switches:
                made += _switched(switches[name], name, value)
            else:
                made.append(arg)
        return made

    def _knows(self, name: str) -> bool:
        return any(name in (*each.opts, *each.secondary_opts) for each in self.params)


def _is_switch(parameter: click.Parameter) -> bool:
    option: Any = parameter
    return isinstance(parameter, click.Option) and bool(option.is_flag) and not option.count


def _switched(option: click.Parameter, name: str, value: str) -> list[str]:
    if value.lower() in _TRUE:
        return [name]
    if value.lower() not in _FALSE:
        raise click.BadParameter(f"{value!r} is neither true nor false", param_hint=name)
    return [option.secondary_opts[0]] if option.secondary_opts else []
