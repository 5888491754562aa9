//! What a node counts at a moment, and what that says of the time between two moments.

use std::collections::BTreeMap;

/// The numbers of one scrape, by name and labels as they stand in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sample {
    series: BTreeMap<(String, String), f64>,
}

/// Sum of `numbers`; 0 if there are none. [`Iterator::sum`] returns -0 then, which is displayed with its sign.
pub(crate) fn total(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |total, number| total + number)
}

impl Sample {
    /// Reads OpenMetrics text. What is no sample is passed over.
    pub(crate) fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some(((name.to_owned(), labels.trim_end_matches('}').to_owned()), value.parse().ok()?))
        };
        Self { series: text.lines().filter_map(sample).collect() }
    }

    /// All series of a name, each with its labels.
    pub(crate) fn of<'s>(&'s self, name: &'s str) -> impl Iterator<Item = (&'s str, f64)> {
        let from = (name.to_owned(), String::new());
        let series = self.series.range(from..).take_while(move |((other, _), _)| other == name);
        series.map(|((_, labels), value)| (labels.as_str(), *value))
    }

    /// Their sum.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        total(self.of(name).map(|(_, value)| value))
    }

    /// What has been counted since an earlier moment; what is no counter is as it is.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let counted = |((name, labels), value): (&(String, String), &f64)| {
            let is_counter = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
            let earlier = before.series.get(&(name.clone(), labels.clone())).copied().unwrap_or(0.0);
            // A node that was started anew counts from nothing.
            let value = if is_counter && *value >= earlier { value - earlier } else { *value };
            ((name.clone(), labels.clone()), value)
        };
        Self { series: self.series.iter().map(counted).collect() }
    }

    /// The numbers of several nodes together.
    pub(crate) fn together<'s>(all: impl Iterator<Item = &'s Self>) -> Self {
        let mut sum = Self::default();
        for sample in all {
            for (series, value) in &sample.series {
                *sum.series.entry(series.clone()).or_default() += value;
            }
        }
        sum
    }

    /// The quantile of a histogram, of the series with this label, in seconds: the upper end of the bucket in which it lies.
    pub(crate) fn quantile(&self, name: &str, label: (&str, &str), part: f64) -> Option<f64> {
        let buckets = format!("{name}_bucket");
        let mut ends: Vec<(f64, f64)> = self
            .of(&buckets)
            .filter(|(labels, _)| value(labels, label.0) == Some(label.1))
            .filter_map(|(labels, count)| {
                let end = value(labels, "le")?;
                Some((if end == "+Inf" { f64::INFINITY } else { end.parse().ok()? }, count))
            })
            .collect();
        ends.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let all = ends.last()?.1;
        ends.into_iter().find(|(_, count)| all > 0.0 && *count >= all * part).map(|(end, _)| end)
    }
}

/// The value of a label.
pub(crate) fn value<'l>(labels: &'l str, name: &str) -> Option<&'l str> {
    labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str =
        "# HELP a_total x\na_total{cache=\"hit\",site=\"s\"} 10\na_total{cache=\"miss\",site=\"s\"} 1\ng 5\n";
    const AFTER: &str = "a_total{cache=\"hit\",site=\"s\"} 30\na_total{cache=\"miss\",site=\"s\"} 2\ng 7\n\
        d_bucket{le=\"0.001\",cache=\"hit\"} 90\nd_bucket{le=\"0.01\",cache=\"hit\"} 98\nd_bucket{le=\"+Inf\",cache=\"hit\"} 100\n# EOF\n";

    #[test]
    fn counters_count_from_the_earlier_moment_and_gauges_are_as_they_are() {
        let (before, after) = (Sample::parse(BEFORE), Sample::parse(AFTER));
        let since = after.since(&before);
        assert_eq!((since.sum("a_total"), since.sum("g"), since.sum("d_bucket")), (21.0, 7.0, 288.0));
        let hits: f64 = since.of("a_total").filter(|(l, _)| value(l, "cache") == Some("hit")).map(|(_, n)| n).sum();
        assert_eq!(hits, 20.0);
        // Started anew.
        assert_eq!(before.since(&after).sum("a_total"), 11.0);
        assert_eq!(Sample::together([&before, &after].into_iter()).sum("g"), 12.0);
    }

    #[test]
    fn quantiles_are_the_ends_of_buckets() {
        let sample = Sample::parse(AFTER);
        let at = |part| sample.quantile("d", ("cache", "hit"), part);
        assert_eq!((at(0.5), at(0.95), at(0.999)), (Some(0.001), Some(0.01), Some(f64::INFINITY)));
        assert_eq!(sample.quantile("d", ("cache", "miss"), 0.5), None);
    }
}
