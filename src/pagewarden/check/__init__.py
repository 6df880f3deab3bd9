"""The model checker: every interleaving of guest, VMM and a hostile host over the tables of the law.

`page` goes from the law to small automata, `search` explores their product and knows no law, `export` writes the same
system for other checkers; `verdict`, `replay` and `explain` say what was found; `minimal`: which mechanisms suffice.
May be imported: `verdict.check` and `page.system.Setting`, and what takes their results.

    from pagewarden.check.page.system import Setting
    from pagewarden.check.verdict import check
    from pagewarden.law import policy_named

    report = check(Setting(policy_named("memfd"), pages=1, vcpus=1, strangers=("touch",)))
    print([verdict.name for verdict in report.verdicts if verdict.verdict == "fails"])
"""
