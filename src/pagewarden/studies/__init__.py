"""What each verb finds out, one folder a verb: the only floor that picks the model or the kernel.

May be imported: `compare.comparison`, `probe.isolation`, `run.one`, `calibrate.calibration`.

    from pagewarden.cost import load_profile
    from pagewarden.law import policy_named
    from pagewarden.studies.compare.comparison import Setup, compare
    from pagewarden.workload import single

    print(compare(Setup(policy_named("hybrid"), load_profile("vmx-skylake")), single()).cheapest)
"""
