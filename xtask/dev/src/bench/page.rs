//! docs/PERFORMANCE.md, from the figures of one run.

use super::app::{Figures, Rate, Round, Spread, mib};

/// The page.
pub(super) fn render(figures: &Figures) -> String {
    format!("{HEAD}\n{}\n{}\n{TAIL}", tables(figures), machine(figures))
}

const HEAD: &str = "\
# Performance of the counter

`cargo xtask bench app` measures and writes this page; a change by hand is gone with the next run.
Ratios come first: they say something about the program, while the rates below them say as much about the machine.
Every ratio is taken within a round of measurements that lie seconds apart; shown is the middle of the rounds, and in brackets the lowest and the highest.
";

const TAIL: &str = "\
## How it is measured

- The counter is the static release binary of the image, in a process of its own.
- The load comes over loopback from one thread, which takes its share of the same cores: with clients elsewhere the counter does more.
- A client asks again as soon as it is answered, on a connection that stays open; nobody pipelines.
- A visit is `GET /`, answered when its number is on disk; a read is `GET /visits`, answered from memory; both answers are JSON of the same size.
- The disk's own limit is a loop without the counter, on the same folder: write a new file, sync it, rename it, sync the folder.
- A write cycle is the time from one write to the next while 256 clients visit, by the counter's own metrics: gathering visitors, writing, answering.
- At the end the number must be exactly the number of visits answered, or there are no figures.

## What decides

The disk decides what one client gets, and the processor what many clients get: a write takes everybody along who is waiting.
With n clients and a write of w seconds there are never more than n / w visits per second, however fast the program is; on a disk that takes 5 ms, 256 clients cannot exceed 51,000.

A write waits for seven eighths of the crowd: of those whom the write before answered, and of those who came while it ran.
Waiting for all of them would leave the processor idle during the write and the disk idle between two writes; waiting for nobody would make many small writes, and everybody would wait for several of them.
It stops waiting when nobody came for a millisecond, and does not begin to when the write before met only one visitor.

One thread serves all connections and another one writes, so a read never waits for the disk.
A request is so little work that sharing it out costs more than it brings: with two serving threads, a read took half as much processor time again.
The price is that reads never use more than one core.
";

/// Both tables, as they are printed.
pub(super) fn tables(figures: &Figures) -> String {
    let mut text = "| ratio or bound | aim | measured | holds |\n|---|---|---|---|\n".to_owned();
    for aim in figures.aims() {
        let holds = if aim.holds { "yes" } else { "**no**" };
        text += &format!("| {} | {} | {} | {holds} |\n", aim.name, aim.aim, aim.measured);
    }
    text += "\n| load | per second | median | 99th percentile |\n|---|---|---|---|\n";
    type Column = fn(&Round) -> &Rate;
    let rows: [(&str, Column); 5] = [
        ("the disk alone, one write after the other", |round| &round.disk),
        ("durable visits, 1 client", |round| &round.visits_1),
        ("durable visits, 16 clients", |round| &round.visits_16),
        ("durable visits, 256 clients", |round| &round.visits_256),
        ("reads, 256 clients", |round| &round.reads_256),
    ];
    let middle =
        |value: &dyn Fn(&Round) -> f64| Spread::of(figures.rounds.iter().map(value).collect()).middle;
    for (name, rate) in rows {
        text += &format!(
            "| {name} | {} | {:.2} ms | {:.2} ms |\n",
            thousands(middle(&|round| rate(round).per_s)),
            middle(&|round| rate(round).p50_us) / 1000.0,
            middle(&|round| rate(round).p99_us) / 1000.0,
        );
    }
    text += &format!(
        "\nAt 256 clients a write takes {:.0} visits along and {:.2} ms, and starts {:.2} ms after the one before.\n\
         Resident memory is {:.1} MiB idle and was {:.1} MiB at most.\n",
        middle(&|round| round.writes_256.visits as f64 / round.writes_256.count.max(1) as f64),
        middle(&|round| 1000.0 * round.writes_256.seconds / round.writes_256.count.max(1) as f64),
        middle(&Round::cycle_us) / 1000.0,
        mib(figures.idle_kib),
        mib(figures.peak_kib),
    );
    text
}

fn machine(figures: &Figures) -> String {
    let machine = &figures.machine;
    format!(
        "## The machine\n\n\
         {} with {} cores and {:.0} GiB of memory, Linux {}, {} on a virtual or real disk as it comes.\n\
         In the minute before, {:.1} processes on average wanted a core.\n",
        machine.processor,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.file_system,
        machine.load_before
    )
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::machine::Machine;
    use super::super::server::Writes;
    use super::*;

    fn rate(per_s: f64, p99_us: f64) -> Rate {
        Rate { count: 1, per_s, seconds: 2.0, p50_us: p99_us / 2.0, p99_us }
    }

    fn figures(visits_256: f64) -> Figures {
        let round = |scale: f64| Round {
            disk: rate(4000.0 * scale, 500.0),
            visits_1: rate(3400.0 * scale, 600.0),
            visits_16: rate(20_000.0 * scale, 2000.0),
            visits_256: rate(visits_256 * scale, 7000.0),
            reads_256: rate(100_000.0 * scale, 6000.0),
            writes_256: Writes { count: 1000, visits: 140_000, seconds: 0.4 },
        };
        Figures {
            machine: Machine {
                processor: "A processor".to_owned(),
                cores: 2,
                memory_gib: 24.0,
                kernel: "6.18.44".to_owned(),
                file_system: "ext4".to_owned(),
                load_before: 0.2,
            },
            rounds: vec![round(1.0), round(0.1), round(0.5)],
            idle_kib: 2253,
            peak_kib: 13_000,
            ready_ms: vec![4.0, 5.0, 90.0],
            binary_bytes: 2_246_848,
        }
    }

    #[test]
    fn the_page_shows_ratios_first_and_every_aim() {
        let page = render(&figures(70_000.0));
        for line in [
            "| durable visits at 256 clients, of plain reads at 256 clients | at least 60 % | 70 % (70 to 70) | yes |",
            "| durable visits at 256 clients, times those of one client | at least 20 | 20.6 (20.6 to 20.6) | yes |",
            "| 99th percentile at 256 clients, in write cycles of that load | at most 4 | 3.5 (3.5 to 3.5) | yes |",
            "| start to ready | under 20 ms | 5.0 ms (4.0 to 90.0) | yes |",
            "| the static binary | under 4 MiB | 2.1 MiB | yes |",
            "| durable visits, 256 clients | 35,000 | 3.50 ms | 7.00 ms |",
            "At 256 clients a write takes 140 visits along and 0.40 ms, and starts 2.00 ms after the one before.",
        ] {
            assert!(page.contains(line), "{line}\nis not in\n{page}");
        }
        assert!(page.find("| ratio").unwrap() < page.find("| load").unwrap());
    }

    #[test]
    fn an_aim_that_was_missed_is_told() {
        let missed = figures(50_000.0);
        assert!(tables(&missed).contains("50 % (50 to 50) | **no** |"), "{}", tables(&missed));
        assert_eq!(missed.aims().iter().filter(|aim| !aim.holds).count(), 2);
    }
}
