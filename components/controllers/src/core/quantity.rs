//! Reads quantities as numbers, for comparing sizes of volumes. Units: the API's Quantity type.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const SUFFIXES: &[(&str, f64)] = &[
    ("Ki", 1024.0),
    ("Mi", 1048576.0),
    ("Gi", 1073741824.0),
    ("Ti", 1099511627776.0),
    ("Pi", 1125899906842624.0),
    ("Ei", 1152921504606846976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// `None` for text that is no quantity.
pub fn value(quantity: &Quantity) -> Option<f64> {
    let text = quantity.0.trim();
    if let Ok(number) = text.parse::<f64>() {
        return Some(number);
    }
    SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix)?.parse::<f64>().ok().map(|number| number * factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_forms() {
        let of = |text: &str| value(&Quantity(text.into()));
        assert_eq!(of("1Gi"), Some(1073741824.0));
        assert_eq!(of("1G"), Some(1e9));
        assert_eq!(of("500m"), Some(0.5));
        assert_eq!(of("1e3"), Some(1000.0));
        assert_eq!(of("12"), Some(12.0));
        assert_eq!(of("x"), None);
    }
}
