//! docs/PERFORMANCE.md, from the figures of one run.

use super::app::{Figures, Rate, RedisRound, Round, Slower, Spread, mib};

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
- The disk's own limit is a loop without the counter, on the same folder: overwrite a few bytes of a sector in place, `fdatasync`.
- Redis runs where `redis-server` is on `PATH`, on the same folder, with `appendonly yes` and `appendfsync always`, under the same load generator.
- A slower disk is the same disk and a sleep before each sync.
- At the end the number must be exactly the number of visits answered, or there are no figures.

## What decides

The disk decides what one client gets, and the processor what many clients get: a write takes everybody along who is waiting.
With n clients and a write of w seconds there are never more than n / w visits per second, however fast the program is; on a disk that takes 5 ms, 256 clients cannot exceed 51,000.

A write is one small write in place and one flush ([decision 11](decisions/0011-a-write-in-place-and-who-shares-it.md)).
One client waits for the disk, for its own two wake-ups and the server's (what a plain read of one client takes), and for two more: the visit wakes the writer, the writer wakes the server.

A write waits for its whole crowd: for those whom the write before answered, and those who came while it ran.
Otherwise a crowd falls into two that take turns, and everybody waits for two writes.
It waits half as long as a write takes, and not when nobody came for 100 µs; for a visitor who is alone it does not wait.

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
        ("the disk alone, one write in place after the other", |round| &round.disk),
        ("durable visits, 1 client", |round| &round.visits_1),
        ("durable visits, 16 clients", |round| &round.visits_16),
        ("durable visits, 256 clients", |round| &round.visits_256),
        ("reads, 256 clients", |round| &round.reads_256),
    ];
    let mut row = |name: &str, rates: Vec<&Rate>| {
        let middle =
            |value: fn(&Rate) -> f64| Spread::of(rates.iter().map(|rate| value(rate)).collect()).middle;
        text += &format!(
            "| {name} | {} | {:.2} ms | {:.2} ms |\n",
            thousands(middle(|rate| rate.per_s)),
            middle(|rate| rate.p50_us) / 1000.0,
            middle(|rate| rate.p99_us) / 1000.0,
        );
    };
    for (name, rate) in rows {
        row(name, figures.rounds.iter().map(rate).collect());
    }
    if let Some(version) = &figures.redis {
        let redis: Vec<&RedisRound> =
            figures.rounds.iter().filter_map(|round| round.redis.as_ref()).collect();
        let of = |rate: fn(&RedisRound) -> &Rate| redis.iter().map(|round| rate(round)).collect();
        row(&format!("Redis {version}, durable INCR, 1 client"), of(|redis| &redis.incr_1));
        row(&format!("Redis {version}, durable INCR, 256 clients"), of(|redis| &redis.incr_256));
        row(&format!("Redis {version}, GET, 256 clients"), of(|redis| &redis.get_256));
    }
    for Slower { longer_ms, rounds } in &figures.slower {
        let disk = format!("durable visits, syncs {longer_ms} ms longer");
        row(&format!("{disk}, 1 client"), rounds.iter().map(|(one, _)| one).collect());
        row(&format!("{disk}, 256 clients"), rounds.iter().map(|(_, many)| many).collect());
    }
    let middle =
        |value: &dyn Fn(&Round) -> f64| Spread::of(figures.rounds.iter().map(value).collect()).middle;
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
            redis: Some(RedisRound {
                incr_1: rate(3000.0 * scale, 700.0),
                incr_256: rate(80_000.0 * scale, 5000.0),
                get_256: rate(90_000.0 * scale, 5000.0),
            }),
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
            slower: vec![Slower {
                longer_ms: 5,
                rounds: vec![(rate(190.0, 5500.0), rate(34_000.0, 7500.0))],
            }],
            redis: Some("7.0".to_owned()),
            idle_kib: 2253,
            peak_kib: 13_000,
            ready_ms: vec![4.0, 5.0, 90.0],
            binary_bytes: 2_246_848,
        }
    }

    #[test]
    fn the_page_shows_ratios_first_and_every_aim() {
        let page = render(&figures(95_000.0));
        for line in [
            "| durable visits of one client, of the disk's own limit | at least 60 % | 85 % (85 to 85) | yes |",
            "| durable visits at 256 clients, of plain reads at 256 clients | at least 90 % | 95 % (95 to 95) | yes |",
            "| durable visits of one client, of Redis' durable INCR | at least 100 % | 113 % (113 to 113) | yes |",
            "| durable visits at 256 clients, of Redis' durable INCR | at least 80 % | 119 % (119 to 119) | yes |",
            "| start to ready | under 20 ms | 5.0 ms (4.0 to 90.0) | yes |",
            "| the static binary | under 4 MiB | 2.1 MiB | yes |",
            "| durable visits, 256 clients | 47,500 | 3.50 ms | 7.00 ms |",
            "| Redis 7.0, durable INCR, 256 clients | 40,000 | 2.50 ms | 5.00 ms |",
            "| durable visits, syncs 5 ms longer, 256 clients | 34,000 | 3.75 ms | 7.50 ms |",
            "At 256 clients a write takes 140 visits along and 0.40 ms, and starts 2.00 ms after the one before.",
        ] {
            assert!(page.contains(line), "{line}\nis not in\n{page}");
        }
        assert!(page.find("| ratio").unwrap() < page.find("| load").unwrap());
    }

    #[test]
    fn an_aim_that_was_missed_is_told() {
        let missed = figures(60_000.0);
        assert!(tables(&missed).contains("60 % (60 to 60) | **no** |"), "{}", tables(&missed));
        // The slowest hundredth takes twice as long as the middle one in these figures.
        assert_eq!(missed.aims().iter().filter(|aim| !aim.holds).count(), 3);
    }

    #[test]
    fn a_machine_without_redis_is_not_measured_against_it() {
        let mut figures = figures(95_000.0);
        figures.redis = None;
        figures.rounds.iter_mut().for_each(|round| round.redis = None);
        assert!(!tables(&figures).contains("Redis"), "{}", tables(&figures));
    }
}
