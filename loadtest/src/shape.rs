//! What is asked for: which object, how large it is, the whole or a part. The n-th request of a run is the same in every run, but for
//! objects that nobody may have asked for before.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::RangeInclusive;

use http::Uri;
use http::uri::{Authority, PathAndQuery, Scheme};

use crate::LoadError;
use crate::draw::{Draw, Ranks};

/// Objects, and how they are asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    /// How many there are: they take the place of `{object}` in URLs, from 0.
    pub objects: u32,
    /// How often each is asked for.
    pub popularity: Popularity,
    /// How large they are: their size takes the place of `{size}` in URLs.
    pub sizes: Sizes,
    /// The share of requests for an object that nobody has asked for before, from 0 to 1.
    pub misses: f64,
    /// The share of requests for a part, from 0 to 1.
    pub ranges: f64,
    /// Another number, other requests.
    pub seed: u64,
}

/// How often objects are asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Popularity {
    /// All alike.
    Uniform,
    /// The n-th in proportion to 1/n to this power.
    Zipf(f64),
}

/// How large objects are, in bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Sizes {
    /// All the same.
    Fixed(u64),
    /// Log-normal: the median, and the spread of the logarithm.
    LogNormal {
        /// Half of them are smaller.
        median: u64,
        /// Standard deviation of the natural logarithm.
        spread: f64,
    },
    /// Some sizes, each with its weight.
    Mixed(Vec<(u64, f64)>),
}

impl Default for Shape {
    fn default() -> Self {
        let (popularity, sizes) = (Popularity::Uniform, Sizes::Fixed(1024));
        Self { objects: 1, popularity, sizes, misses: 0.0, ranges: 0.0, seed: 1 }
    }
}

/// A URL with places for `{object}` and `{size}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    scheme: Scheme,
    pub(crate) authority: Authority,
    path: String,
}

impl Target {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// It is no URL that can be asked.
    pub fn parse(url: &str) -> Result<Self, LoadError> {
        let wrong = || LoadError::Url(url.to_owned());
        // Braces are not allowed in URLs, but that is where they are replaced.
        let sample: Uri = url.replace("{object}", "0").replace("{size}", "0").parse().map_err(|_no_uri| wrong())?;
        let (Some(scheme), Some(authority)) = (sample.scheme().cloned(), sample.authority().cloned()) else {
            return Err(wrong());
        };
        let rest = url.split_once("://").map_or("", |(_, rest)| rest);
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let right = (scheme == Scheme::HTTP || scheme == Scheme::HTTPS)
            && !authority.host().is_empty()
            && !host.contains(['@', '{']);
        let path = path.split('#').next().unwrap_or_default();
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if right { Ok(Self { scheme, authority, path }) } else { Err(wrong()) }
    }

    /// The same at another host.
    #[must_use]
    pub fn at(&self, authority: Authority) -> Self {
        Self { authority, ..self.clone() }
    }

    pub(crate) fn holds(&self, placeholder: &str) -> bool {
        self.path.contains(placeholder)
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The URL of an object.
    pub(crate) fn url(&self, object: u64, size: u64) -> Result<Uri, LoadError> {
        let path = self.path.replace("{object}", &object.to_string()).replace("{size}", &size.to_string());
        let wrong = |_no_path| LoadError::Url(path.clone());
        let path = PathAndQuery::try_from(path.as_str()).map_err(wrong)?;
        let uri = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone()).path_and_query(path);
        uri.build().map_err(|_no_uri| LoadError::Url(self.path.clone()))
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    pub(crate) url: Uri,
    pub(crate) part: Option<RangeInclusive<u64>>,
}

/// A shape, ready to be drawn from.
#[derive(Debug)]
pub(crate) struct Shaped {
    shape: Shape,
    ranks: Ranks,
    sizes: Option<(Vec<u64>, Ranks)>,
    /// Where the objects begin that nobody has asked for: elsewhere in each run.
    unseen: u64,
}

impl Shaped {
    pub(crate) fn new(shape: &Shape) -> Self {
        let skew = if let Popularity::Zipf(skew) = shape.popularity { skew } else { 0.0 };
        let sizes = if let Sizes::Mixed(sizes) = &shape.sizes {
            let weights: Vec<f64> = sizes.iter().map(|(_, weight)| *weight).collect();
            Some((sizes.iter().map(|(size, _)| *size).collect(), Ranks::weighted(&weights)))
        } else {
            None
        };
        let unseen = RandomState::new().build_hasher().finish() | 1 << 63;
        Self { ranks: Ranks::zipf(shape.objects, skew), sizes, shape: shape.clone(), unseen }
    }

    /// The request of this number to one of the targets of a host.
    pub(crate) fn asked(&self, target: &Target, host: usize, number: u64) -> Result<Asked, LoadError> {
        let mut draw = Draw(self.shape.seed ^ number.rotate_left(20) ^ (host as u64) << 8);
        draw.number();
        let is_miss = draw.part() < self.shape.misses;
        let object = if is_miss {
            self.unseen.wrapping_add(number << 8 | host as u64)
        } else {
            u64::from(self.ranks.draw(&mut draw))
        };
        let url = self.url(target, object)?;
        let part = if draw.part() < self.shape.ranges { size_in(&url).map(|size| part(&mut draw, size)) } else { None };
        Ok(Asked { url, part })
    }

    /// The URL of an object at a target.
    pub(crate) fn url(&self, target: &Target, object: u64) -> Result<Uri, LoadError> {
        target.url(object, self.size(object))
    }

    /// The size of an object: the same whenever it is asked for.
    fn size(&self, object: u64) -> u64 {
        let mut draw = Draw(self.shape.seed ^ object << 20 ^ 0x5eed);
        match (&self.shape.sizes, &self.sizes) {
            (Sizes::Fixed(size), _) => *size,
            (Sizes::LogNormal { median, spread }, _) => {
                #[expect(clippy::cast_precision_loss, reason = "a size that somebody wrote down")]
                let median = *median as f64;
                draw.log_normal(median, *spread)
            }
            (Sizes::Mixed(_), Some((sizes, ranks))) => {
                let place = usize::try_from(ranks.draw(&mut draw)).unwrap_or(0);
                sizes.get(place).copied().unwrap_or(0)
            }
            (Sizes::Mixed(_), None) => 0,
        }
    }
}

/// A part of so many bytes: as players and downloaders do, some way in, and not to the end.
fn part(draw: &mut Draw, size: u64) -> RangeInclusive<u64> {
    let size = size.max(1);
    let first = draw.number() % size;
    let length = 1 + draw.number() % (size - first);
    first..=first + length - 1
}

/// A number in the query of a URL.
pub(crate) fn number_in(url: &Uri, name: &str) -> Option<u64> {
    let pairs = url.query()?.split('&');
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    values.next()?.parse().ok()
}

/// How large the object of a URL is, if the URL tells.
pub(crate) fn size_in(url: &Uri) -> Option<u64> {
    number_in(url, "size")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_urls_with_places() {
        let target = Target::parse("http://a:81/x/{object}?size={size}&seed={object}#top").unwrap();
        assert_eq!(target.url(7, 100).unwrap().to_string(), "http://a:81/x/7?size=100&seed=7");
        assert_eq!(Target::parse("https://a").unwrap().url(1, 1).unwrap().to_string(), "https://a/");
        assert_eq!(Target::parse("http://a?x").unwrap().url(1, 1).unwrap().to_string(), "http://a/?x");
        for wrong in ["", "/x", "ftp://a/", "http://", "http://u:p@a/", "http://a/ b", "http://{object}/"] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn requests_are_as_popular_as_was_ordered_and_the_same_each_time() {
        let target = Target::parse("http://a/{object}?size={size}").unwrap();
        let shape = Shape { objects: 100, popularity: Popularity::Zipf(1.0), ..Shape::default() };
        let urls = |shape: &Shape| -> Vec<Uri> {
            let shaped = Shaped::new(shape);
            (0..20_000).map(|number| shaped.asked(&target, 0, number).unwrap().url).collect()
        };
        let drawn = urls(&shape);
        assert_eq!(drawn, urls(&shape));
        assert_ne!(drawn, urls(&Shape { seed: 2, ..shape.clone() }));
        let count = |path: &str| drawn.iter().filter(|url| url.path() == path).count();
        // 1 / H(100) = 0.193
        assert!((3_600..4_150).contains(&count("/0")), "{}", count("/0"));
        assert!((1_750..2_150).contains(&count("/1")), "{}", count("/1"));
        let even = urls(&Shape { popularity: Popularity::Uniform, ..shape });
        let most = (0..100).map(|object| even.iter().filter(|url| url.path() == format!("/{object}")).count()).max();
        assert!((200..280).contains(&most.unwrap()), "{most:?}");
    }

    #[test]
    fn misses_are_of_objects_that_nobody_has_asked_for() {
        let target = Target::parse("http://a/{object}").unwrap();
        let shape = Shape { misses: 0.25, ..Shape::default() };
        let unseen = |host| {
            let shaped = Shaped::new(&shape);
            let urls = (0..4_000).map(|number| shaped.asked(&target, host, number).unwrap().url.path().to_owned());
            urls.filter(|path| path != "/0").collect::<std::collections::BTreeSet<_>>()
        };
        let (one, other) = (unseen(0), unseen(1));
        assert!((900..1_100).contains(&one.len()), "a quarter, each another: {}", one.len());
        assert!(one.is_disjoint(&other) && one.is_disjoint(&unseen(0)), "other hosts and other runs have others");
    }

    #[test]
    fn sizes_are_of_the_object_and_parts_are_inside() {
        let target = Target::parse("http://a/{object}?size={size}").unwrap();
        let sizes = Sizes::Mixed(vec![(10, 3.0), (1_000, 1.0)]);
        let mixed = Shaped::new(&Shape { objects: 1_000, sizes, ranges: 0.5, ..Shape::default() });
        let large = (0..1_000).filter(|object| mixed.size(*object) == 1_000).count();
        assert!((200..300).contains(&large), "a quarter: {large}");
        let asked: Vec<_> = (0..2_000).map(|number| mixed.asked(&target, 0, number).unwrap()).collect();
        let parts = asked.iter().filter_map(|asked| Some((size_in(&asked.url)?, asked.part.clone()?)));
        let parts: Vec<_> = parts.collect();
        assert!((900..1_100).contains(&parts.len()), "half: {}", parts.len());
        assert!(parts.iter().all(|(size, part)| part.start() <= part.end() && part.end() < size));
        let spread = Shaped::new(&Shape { sizes: Sizes::LogNormal { median: 1_000, spread: 1.0 }, ..Shape::default() });
        let mut sizes: Vec<_> = (0..1_001).map(|object| spread.size(object)).collect();
        sizes.sort_unstable();
        assert!((850..1_150).contains(&sizes[500]), "{}", sizes[500]);
    }
}
