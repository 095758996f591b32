//! The regions of the service. Every certificate is in one region.

use std::collections::BTreeMap;
use std::fmt;

use super::alibaba_regions;

/// The id of a region, for example `cn-hangzhou`. It comes from [`Regions`] or from the store.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RegionId(String);

/// A region and its names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Region {
    /// The region's id.
    pub id: RegionId,
    /// The region's name in simplified Chinese.
    pub name_zh_cn: String,
    /// The region's name in English.
    pub name_en_us: String,
    /// The region's name in Japanese.
    pub name_ja: String,
}

/// The regions that this service knows, ordered by id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Regions(BTreeMap<RegionId, Region>);

/// A language of region names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Language {
    /// Simplified Chinese, `zh-CN`: the default.
    #[default]
    ZhCn,
    /// English, `en-US`.
    EnUs,
    /// Japanese, `ja`.
    Ja,
}

/// Why a text is not a region.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RegionError {
    /// The text is empty.
    Missing,
    /// The text is not the id of one of [`Regions`].
    Unknown,
}

/// A text that is not a language of [`Language`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LanguageError;

impl RegionId {
    /// The id that the store holds.
    pub fn from_stored(id: String) -> Self {
        Self(id)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Region {
    /// The region's name in this language.
    pub fn local_name(&self, language: Language) -> &str {
        match language {
            Language::ZhCn => &self.name_zh_cn,
            Language::EnUs => &self.name_en_us,
            Language::Ja => &self.name_ja,
        }
    }
}

impl Regions {
    /// The public regions of Alibaba Cloud that are open.
    pub fn alibaba() -> Self {
        let region = |&(id, zh, en, ja): &(&str, &str, &str, &str)| Region {
            id: RegionId(id.to_owned()),
            name_zh_cn: zh.to_owned(),
            name_en_us: en.to_owned(),
            name_ja: ja.to_owned(),
        };
        alibaba_regions::REGIONS.iter().map(region).collect()
    }

    /// The region with this id.
    pub fn find(&self, id: &str) -> Result<RegionId, RegionError> {
        if id.is_empty() {
            return Err(RegionError::Missing);
        }
        let id = RegionId(id.to_owned());
        if self.0.contains_key(&id) {
            Ok(id)
        } else {
            Err(RegionError::Unknown)
        }
    }

    /// The region with this id. An empty id means the only region, if there is exactly one.
    pub fn find_or_only(&self, id: &str) -> Result<RegionId, RegionError> {
        match (id, self.0.len()) {
            ("", 1) => self.0.keys().next().cloned().ok_or(RegionError::Missing),
            _ => self.find(id),
        }
    }

    /// The regions, ordered by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Region> {
        self.0.values()
    }
}

impl FromIterator<Region> for Regions {
    /// If several regions have the same id, the last one counts.
    fn from_iter<T: IntoIterator<Item = Region>>(regions: T) -> Self {
        Self(regions.into_iter().map(|region| (region.id.clone(), region)).collect())
    }
}

impl Language {
    /// Reads a language tag. An empty tag means `zh-CN`.
    pub fn parse(tag: &str) -> Result<Self, LanguageError> {
        match tag {
            "" | "zh-CN" => Ok(Self::ZhCn),
            "en-US" => Ok(Self::EnUs),
            "ja" => Ok(Self::Ja),
            _ => Err(LanguageError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_region_by_its_exact_id() {
        let regions = Regions::alibaba();
        assert_eq!(regions.find("cn-hangzhou").unwrap().as_str(), "cn-hangzhou");
        assert_eq!(regions.find(""), Err(RegionError::Missing));
        for unknown in ["CN-HANGZHOU", "cn-hangzhou ", "mars-1", "ap-southeast-2", "ap-south-1"] {
            assert_eq!(regions.find(unknown), Err(RegionError::Unknown), "{unknown}");
        }
    }

    #[test]
    fn an_empty_id_means_the_only_region() {
        let region = |id: &str| Region {
            id: RegionId(id.to_owned()),
            name_zh_cn: id.to_owned(),
            name_en_us: id.to_owned(),
            name_ja: id.to_owned(),
        };
        let one: Regions = [region("dc-1")].into_iter().collect();
        for id in ["", "dc-1"] {
            assert_eq!(one.find_or_only(id).unwrap().as_str(), "dc-1");
        }
        assert_eq!(one.find_or_only("dc-2"), Err(RegionError::Unknown));
        let two: Regions = [region("dc-1"), region("dc-2")].into_iter().collect();
        assert_eq!(two.find_or_only(""), Err(RegionError::Missing));
        assert_eq!(Regions::from_iter([]).find_or_only(""), Err(RegionError::Missing));
    }

    #[test]
    fn no_id_is_listed_twice() {
        assert_eq!(Regions::alibaba().iter().len(), alibaba_regions::REGIONS.len());
    }

    #[test]
    fn names_regions_in_three_languages() {
        let regions = Regions::alibaba();
        let tokyo = regions
            .iter()
            .find(|region| region.id.as_str() == "ap-northeast-1")
            .unwrap();
        let name = |tag| tokyo.local_name(Language::parse(tag).unwrap());
        assert_eq!((name(""), name("zh-CN")), ("日本（东京）", "日本（东京）"));
        assert_eq!((name("en-US"), name("ja")), ("Japan (Tokyo)", "日本 (東京)"));
        assert_eq!(Language::parse("de"), Err(LanguageError));
    }
}
