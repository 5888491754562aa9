//! The demo site: a page with styles, pictures, a script and a larger file, all from here.

use bytes::Bytes;

use crate::body;

/// A file of the site.
pub(crate) struct Asset {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Bytes,
    /// Changes when the bytes do.
    pub(crate) tag: String,
}

const LARGE_BYTES: u64 = 4 << 20;

/// The file at a path.
pub(crate) fn asset(path: &str) -> Option<Asset> {
    let (media_type, bytes) = match path {
        "/" | "/index.html" => ("text/html; charset=utf-8", Bytes::from_static(include_bytes!("../assets/index.html"))),
        "/style.css" => ("text/css; charset=utf-8", Bytes::from_static(include_bytes!("../assets/style.css"))),
        "/served.js" => ("text/javascript; charset=utf-8", Bytes::from_static(include_bytes!("../assets/served.js"))),
        "/planet.svg" => ("image/svg+xml", Bytes::from_static(include_bytes!("../assets/planet.svg"))),
        "/route.svg" => ("image/svg+xml", Bytes::from_static(include_bytes!("../assets/route.svg"))),
        "/large.bin" => ("application/octet-stream", body::bytes(1, 0, LARGE_BYTES)),
        _ => return None,
    };
    let tag = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Some(Asset { media_type, bytes, tag: format!("{tag:016x}") })
}
