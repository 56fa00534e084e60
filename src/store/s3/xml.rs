//! The XML that S3 speaks, as a tree.
//!
//! In:    a document.
//! Out:   elements by name, in their order, name spaces left out.
//! Holds: servers add and order elements as they like; what is not asked for is not looked at.

use quick_xml::Reader;
use quick_xml::events::Event;

/// One element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Name without its name space.
    pub name: String,
    /// Text directly in it.
    pub text: String,
    /// Elements in it, in their order.
    pub inside: Vec<Element>,
}

impl Element {
    /// The root of `document`; `None` when it is no XML.
    pub fn parse(document: &[u8]) -> Option<Element> {
        let mut reader = Reader::from_reader(document);
        let mut open = vec![Element::default()];
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => open.push(Element::named(tag.local_name().as_ref())),
                Event::Empty(tag) => open.last_mut()?.inside.push(Element::named(tag.local_name().as_ref())),
                Event::End(_) => {
                    let ended = open.pop()?;
                    open.last_mut()?.inside.push(ended);
                }
                Event::Text(text) => open.last_mut()?.text.push_str(&text),
                Event::CData(text) => open.last_mut()?.text.push_str(&text),
                Event::GeneralRef(entity) => {
                    let text = match entity.resolve_char_ref().ok()? {
                        Some(char) => char.to_string(),
                        None => quick_xml::escape::resolve_xml_entity(&entity)?.to_owned(),
                    };
                    open.last_mut()?.text.push_str(&text);
                }
                Event::Eof => break,
                _ => {}
            }
        }
        let mut root = open.pop().filter(|_| open.is_empty())?;
        root.inside.pop()
    }

    fn named(name: &str) -> Element {
        Element { name: name.to_owned(), ..Element::default() }
    }

    /// The first element of that name directly in it.
    pub fn find(&self, name: &str) -> Option<&Element> {
        self.inside.iter().find(|element| element.name == name)
    }

    /// Its text; empty where there is none.
    pub fn text_of(&self, name: &str) -> &str {
        self.find(name).map_or("", |element| element.text.trim())
    }

    /// All elements of that name directly in it.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.inside.iter().filter(move |element| element.name == name)
    }

    /// As a document again, without name spaces.
    pub fn write(&self) -> String {
        let inside: String = self.inside.iter().map(Element::write).collect();
        let text = if self.inside.is_empty() { escape(&self.text) } else { String::new() };
        format!("<{0}>{text}{inside}</{0}>", self.name)
    }
}

/// Text as it may stand in an element.
pub(super) fn escape(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_name_in_their_order_whatever_stands_between() {
        let text = br#"<?xml version="1.0"?><s3:R xmlns:s3="x"><A>1 &amp; &#x32;</A><B/><V><K>k</K></V><C>c</C><V/></s3:R>"#;
        let root = Element::parse(text).unwrap();
        assert_eq!((root.name.as_str(), root.text_of("A"), root.text_of("none")), ("R", "1 & 2", ""));
        assert_eq!(root.all("V").map(|v| v.text_of("K")).collect::<Vec<_>>(), ["k", ""]);
        assert_eq!(Element::parse(root.write().as_bytes()).unwrap(), root);
    }

    #[test]
    fn what_is_no_xml_is_no_tree() {
        for text in ["", "<a>", "<a></b>", "plain", "<html><p>x</html>"] {
            assert_eq!(Element::parse(text.as_bytes()), None, "{text}");
        }
    }
}
