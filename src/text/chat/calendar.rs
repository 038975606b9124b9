//! Dates for templates: `strftime_now`. The C locale and UTC, so that nothing of the host's environment is read.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Seconds since 1970 at this moment.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| i64::try_from(time.as_secs()).unwrap_or(0))
}

/// A moment as a calendar shows it.
struct Moment {
    year: i64,
    /// 1 to 12.
    month: usize,
    /// 1 to 31.
    day: i64,
    /// 0 = Sunday.
    weekday: usize,
    /// 1 to 366.
    day_of_year: i64,
    /// Of the day.
    seconds: i64,
}

impl Moment {
    /// Hinnant's `civil_from_days`: years begin in March there, so that the leap day is their last one.
    fn new(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400);
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * from_march + 2) / 153;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let before_march = 59 + i64::from(leap);
        Self {
            year,
            month: usize::try_from(month).unwrap_or(1),
            day: from_march - (153 * month_from_march + 2) / 5 + 1,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or(0),
            day_of_year: if month <= 2 { from_march - 306 + 1 } else { from_march + before_march + 1 },
            seconds: seconds.rem_euclid(86_400),
        }
    }
}

/// `strftime(format)` at `seconds` since 1970, with the directives of ISO C in the C locale; an unknown one stays as it is.
pub(super) fn strftime(format: &str, seconds: i64) -> String {
    let moment = Moment::new(seconds);
    let mut out = String::with_capacity(format.len() + 16);
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, chars.clone().next()) {
            ('%', Some('-')) if chars.clone().nth(1).is_some() => {
                // glibc's flag: without padding.
                let (mut padded, directive) = (String::new(), chars.nth(1).unwrap_or('%'));
                expand(&moment, directive, &mut padded);
                let bare = padded.trim_start_matches(['0', ' ']);
                out.push_str(if bare.is_empty() { "0" } else { bare });
            }
            ('%', Some(directive)) => {
                chars.next();
                expand(&moment, directive, &mut out);
            }
            (c, _) => out.push(c),
        }
    }
    out
}

fn expand(moment: &Moment, directive: char, out: &mut String) {
    let Moment { year, month, day, weekday, day_of_year, seconds } = *moment;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let hour_12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let (month_name, day_name) = (MONTHS.get(month - 1).unwrap_or(&""), DAYS.get(weekday).unwrap_or(&""));
    let half = if hour < 12 { "AM" } else { "PM" };
    out.push_str(&match directive {
        'Y' => year.to_string(),
        'y' => format!("{:02}", year.rem_euclid(100)),
        'm' => format!("{month:02}"),
        'd' => format!("{day:02}"),
        'e' => format!("{day:2}"),
        'B' => (*month_name).to_owned(),
        'b' | 'h' => month_name[..3].to_owned(),
        'A' => (*day_name).to_owned(),
        'a' => day_name[..3].to_owned(),
        'j' => format!("{day_of_year:03}"),
        'w' => weekday.to_string(),
        'u' => (if weekday == 0 { 7 } else { weekday }).to_string(),
        'H' => format!("{hour:02}"),
        'I' => format!("{hour_12:02}"),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'p' => half.to_owned(),
        'F' => format!("{year}-{month:02}-{day:02}"),
        'T' => format!("{hour:02}:{minute:02}:{second:02}"),
        'R' => format!("{hour:02}:{minute:02}"),
        'D' | 'x' => format!("{month:02}/{day:02}/{:02}", year.rem_euclid(100)),
        'X' => format!("{hour:02}:{minute:02}:{second:02}"),
        'Z' => "UTC".to_owned(),
        'z' => "+0000".to_owned(),
        'n' => "\n".to_owned(),
        't' => "\t".to_owned(),
        '%' => "%".to_owned(),
        other => format!("%{other}"),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let full = "%Y-%m-%d %H:%M:%S %A %j %u";
        for (seconds, expected) in [
            (0, "1970-01-01 00:00:00 Thursday 001 4"),
            (951_782_400, "2000-02-29 00:00:00 Tuesday 060 2"),
            (951_868_799, "2000-02-29 23:59:59 Tuesday 060 2"),
            (1_735_689_599, "2024-12-31 23:59:59 Tuesday 366 2"),
            (1_767_225_600, "2026-01-01 00:00:00 Thursday 001 4"),
            (4_107_542_400, "2100-03-01 00:00:00 Monday 060 1"),
            (-1, "1969-12-31 23:59:59 Wednesday 365 3"),
        ] {
            assert_eq!(strftime(full, seconds), expected);
        }
        assert_eq!(strftime("%d %b %y, %I %p %B %-d %-m %-M %% %", 951_782_400 + 13 * 3600), "29 Feb 00, 01 PM February 29 2 0 % %");
    }
}
