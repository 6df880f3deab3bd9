"""Every way the host could reach a page of its window, each tried for real: `registry` says what a path is, `catalogue`
lists them all, `trial` judges one, `runner` runs many, `stages` are the memories they are tried on, `capabilities` is
what this kernel offers.

    from pagewarden.probe.catalogue import PATHS

    for (name, direction), path in PATHS.items():
        print(name, direction, path.about)
"""
