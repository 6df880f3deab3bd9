"""`--platform`: what kind of memory and which prices belong to a machine; and `--plugin`: a design of the user's."""

import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from typing import NamedTuple

from pagewarden.designs import WITH_PROPOSED, Design, Options, Procedure
from pagewarden.law import POLICIES, USAGES, Policy, policy_named
from pagewarden.vocab import PagewardenError, UserMistake, one_of


class Platform(NamedTuple):
    """Names of a policy and of a profile."""

    policy: str
    profile: str
    about: str


PLATFORMS = {
    "vmx": Platform("guest-memfd", "vmx-skylake", "an Intel server without TDX, guest_memfd of today's kernels"),
    "svm": Platform("guest-memfd", "svm-epyc", "an AMD server without SNP, guest_memfd of today's kernels"),
    "sev-snp": Platform("guest-memfd+sev-snp", "snp-epyc", "AMD SEV-SNP on an EPYC"),
    "tdx": Platform("guest-memfd+tdx", "tdx-xeon", "Intel TDX on a Xeon"),
    "pkvm": Platform("pkvm", "arm64-n1", "pKVM on a Neoverse N1, without an IOMMU of its own"),
    "proposal": Platform("hybrid", "vmx-skylake", "what the mail asks for, which no kernel has, on VMX"),
}
PROPOSAL = "proposal"
"""What is compared where nobody says."""


def chosen(platform: str | None, policy: str | None, profile: str | None) -> tuple[str, str]:
    """Names of policy and profile: those given, else the platform's; UserMistake."""
    made = PLATFORMS[one_of("platform", PROPOSAL if platform is None else platform, PLATFORMS)]
    return made.policy if policy is None else policy, made.profile if profile is None else profile


def apart(policy: Policy, profile: str) -> tuple[str, ...]:
    """A note where the profile is of a machine with a table of owners and the policy knows of none, or where the policy
    is of one kind of machine, and the shipped profile of another."""
    kinds = [name for name in policy.name.split("+") if name in USAGES and name in PLATFORMS]
    others = [name for name, each in PLATFORMS.items() if each.profile == profile]
    if kinds and others and not {*kinds} & {*others}:
        priced = f"profile {profile} is of {PLATFORMS[others[0]].about}"
        return (f"no machine is both: policy {policy.name} is of {PLATFORMS[kinds[0]].about}, {priced}",)
    if policy.has("owner-table") or not policy.has("vmm-converts"):
        return ()
    return tuple(
        f"policy {policy.name} counts no change of the table of owners that profile {profile} has prices of: give "
        f"--policy {policy.name}+{name}"
        for name, each in PLATFORMS.items() if each.profile == profile and name in USAGES
    )  # fmt: skip


class Plugin(NamedTuple):
    """What a file of the user's own defines, by name."""

    designs: dict[str, Design]
    policies: dict[str, Policy]


def plugin(path: str | None) -> Plugin:
    """Run a Python file of the user's and take the `Design`s and `Policy`s that it names; UserMistake.

    Its own errors are the user's: they are told with the line.
    """
    if path is None:
        return Plugin({}, {})
    spec = spec_from_file_location("pagewarden_plugin", path) if Path(path).is_file() else None
    if spec is None or spec.loader is None:
        raise UserMistake(f"--plugin {path}: expected a Python file that defines designs or policies")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses of it look for their names
    try:
        with redirect_stdout(sys.stderr):  # what it prints is not this program's answer
            spec.loader.exec_module(module)
    except Exception as error:
        raise _mistake(path, error) from error
    values = list(vars(module).values())
    found = Plugin(
        {each.name: replace(each, build=_Guarded(path, each)) for each in values if isinstance(each, Design)},
        {value.name: value for value in values if isinstance(value, Policy)},
    )
    if not any(found):
        raise UserMistake(f"--plugin {path}: no Design and no Policy in it (examples/own_design.py shows one)")
    return found


@dataclass(frozen=True)
class _Guarded:
    """A design's build whose errors are the user's; another process, which gets it, runs the file too."""

    path: str
    design: Design

    def __call__(self, options: Options, policy: Policy, write: bool) -> Procedure:
        try:
            made = self.design(options, policy, write)
        except PagewardenError:
            raise
        except Exception as error:
            raise _mistake(self.path, error, f" (design {self.design.name})") from error
        if not isinstance(made, Procedure):
            what = f"built a {type(made).__name__}, not a Procedure"
            raise UserMistake(f"--plugin {self.path}: design {self.design.name} {what}")
        return made

    def __reduce__(self) -> tuple[object, ...]:
        return _elsewhere, (os.path.abspath(self.path), self.design.name)


_once = cache(plugin)


def _elsewhere(path: str, name: str) -> object:
    return _once(path).designs[name].build


def _mistake(path: str, error: Exception, of: str = "") -> UserMistake:
    """An error with the last line of the user's file that led to it."""
    lines = [at.lineno for at in extract_tb(error.__traceback__) if at.filename == os.path.abspath(path)]
    where = f", line {lines[-1]}" if lines else ""
    return UserMistake(f"--plugin {path}{where}: {type(error).__name__}: {error}{of}")


def designs_of(names: Sequence[str], own: Plugin) -> list[Design]:
    """The designs of these names, the user's own first; UserMistake."""
    known = {**WITH_PROPOSED, **own.designs}
    return [known[one_of("design", name, known)] for name in names]


def policy_of(name: str, own: Plugin) -> Policy:
    """The policy of this name, the user's own first; UserMistake."""
    object_, plus, _ = name.partition("+")
    if name not in own.policies and not plus:
        name = one_of("policy", object_, {**POLICIES, **own.policies})
    return own.policies[name] if name in own.policies else policy_named(name)
