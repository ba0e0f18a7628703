from workers.engine.latency.energy import Meter


def zone(folder, name, said, energy, wraps=1_000_000):
    place = folder / name
    place.mkdir()
    (place / "name").write_text(f"{said}\n")
    (place / "energy_uj").write_text(f"{energy}\n")
    (place / "max_energy_range_uj").write_text(f"{wraps}\n")
    return place


def test_packages_are_added_up_and_their_parts_are_not_counted_twice(tmp_path):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 999_900)
    zone(tmp_path, "intel-rapl:0:0", "core", 50)
    zone(tmp_path, "intel-rapl:2", "psys", 50)
    meter = Meter(tmp_path)
    before = meter.read()
    assert before == [100, 999_900]
    (first / "energy_uj").write_text("500100")
    (second / "energy_uj").write_text("400")  # its counter has wrapped
    assert meter.joules(before, meter.read()) == 0.5005


def test_where_nothing_is_told_there_is_no_energy(tmp_path):
    assert not Meter(tmp_path / "absent").works
    hidden = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    (hidden / "energy_uj").unlink()
    (hidden / "energy_uj").mkdir()  # as unreadable as another user's file, for root as well
    assert not Meter(tmp_path).works
