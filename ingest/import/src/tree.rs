//! Reads XML text into a bounded tree that remembers which of its parts were used.
//!
//! An invoice is small, so a tree is simpler than events, and only a tree can say afterwards what
//! nobody asked for. Names carry a fixed prefix that stands for the namespace, whatever prefix the
//! file has chosen: `cbc:ID`, `cac:Party`, or `{uri}name` for a namespace that nobody knows.
//!
//! Invariants
//! - No DOCTYPE, no entities but the five predefined, no `xsi:nil`, no text beside elements.
//! - Depth, elements and attributes are bounded.

use crate::error::{ImportError, Note, shorten};
use crate::source::is_xml_char;
use quick_xml::XmlVersion;
use quick_xml::errors::Error as XmlError;
use quick_xml::escape::EscapeError;
use quick_xml::events::{BytesDecl, BytesRef, BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;
use std::cell::Cell;
use std::collections::BTreeMap;

const DEPTH_MAX: usize = 64;
const ELEMENTS_MAX: usize = 1_000_000;
const ATTRIBUTES_MAX: usize = 64;
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
const NONE: u32 = u32::MAX;

/// Which names a format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vocabulary {
    /// UBL 2: two namespaces of components and one each for the documents.
    Ubl,
    /// No namespace at all.
    Plain,
}

impl Vocabulary {
    fn name(self, space: Option<&str>, local: &str) -> Result<String, String> {
        const UBL: &str = "urn:oasis:names:specification:ubl:schema:xsd:";
        let Some(space) = space else { return Ok(local.to_owned()) };
        let kind = space.strip_prefix(UBL);
        match (self, kind) {
            (Vocabulary::Plain, _) => Err(format!("the foreign namespace {:?}", shorten(space))),
            (_, Some("CommonBasicComponents-2")) => Ok(format!("cbc:{local}")),
            (_, Some("CommonAggregateComponents-2")) => Ok(format!("cac:{local}")),
            (_, Some("Invoice-2")) if local == "Invoice" => Ok("ubl:Invoice".into()),
            (_, Some("CreditNote-2")) if local == "CreditNote" => Ok("ubl:CreditNote".into()),
            _ => Ok(format!("{{{}}}{local}", shorten(space))),
        }
    }
}

#[derive(Debug)]
struct Attribute {
    name: String,
    value: String,
    used: Cell<bool>,
}

#[derive(Debug)]
struct Node {
    name: String,
    attributes: Vec<Attribute>,
    text: String,
    parent: u32,
    first: u32,
    last: u32,
    next: u32,
    used: Cell<bool>,
}

/// A document as a tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
}

/// An element of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'t> {
    tree: &'t Tree,
    id: u32,
}

fn not_xml(at: u64, cause: impl ToString) -> ImportError {
    ImportError::NotXml { at, cause: cause.to_string() }
}

struct Parser<'x> {
    reader: NsReader<&'x [u8]>,
    vocabulary: Vocabulary,
    tree: Tree,
    open: Vec<u32>,
}

impl Tree {
    /// Reads a text.
    pub(crate) fn parse(text: &str, vocabulary: Vocabulary) -> Result<Tree, ImportError> {
        let mut reader = NsReader::from_str(text);
        reader.config_mut().check_comments = true;
        let tree = Tree { nodes: Vec::new() };
        let mut parser = Parser { reader, vocabulary, tree, open: Vec::new() };
        while parser.step()? {}
        match (parser.tree.nodes.is_empty(), parser.open.last()) {
            (true, _) => Err(not_xml(0, "there is no element")),
            (false, Some(open)) => {
                let element = Element { tree: &parser.tree, id: *open };
                let cause = format!("the file ends inside {}", element.path());
                Err(not_xml(parser.reader.buffer_position(), cause))
            }
            _ => Ok(parser.tree),
        }
    }

    /// The outermost element.
    pub(crate) fn root(&self) -> Element<'_> {
        Element { tree: self, id: 0 }
    }

    /// What nobody used: leaves that are not empty, and attributes. Alike paths are counted.
    pub(crate) fn unused(&self) -> Vec<Note> {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for (id, node) in (0u32..).zip(&self.nodes) {
            let element = Element { tree: self, id };
            if node.first == NONE && !node.used.get() && !node.text.trim().is_empty() {
                *counts.entry(element.plain_path()).or_default() += 1;
            }
            for attribute in node.attributes.iter().filter(|attribute| !attribute.used.get()) {
                let path = format!("{}/@{}", element.plain_path(), attribute.name);
                *counts.entry(path).or_default() += 1;
            }
        }
        counts.into_iter().map(|(path, count)| Note::NotCarried { path, count }).collect()
    }

    /// The first leaf that stands twice under one parent, `but` excepted.
    pub(crate) fn duplicate_leaf(&self, but: &[&str]) -> Option<Element<'_>> {
        let mut leaves: Vec<(u32, &str, u32)> = (0u32..)
            .zip(&self.nodes)
            .filter(|(_, node)| node.first == NONE && !but.contains(&node.name.as_str()))
            .map(|(id, node)| (node.parent, node.name.as_str(), id))
            .collect();
        leaves.sort_unstable();
        let pair = leaves.windows(2).find(|pair| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1));
        pair.map(|pair| Element { tree: self, id: pair[1].2 })
    }
}

impl Parser<'_> {
    fn at(&self) -> u64 {
        self.reader.buffer_position()
    }

    fn here(&self) -> String {
        match self.open.last() {
            Some(id) => Element { tree: &self.tree, id: *id }.path(),
            None => "the file".into(),
        }
    }

    fn forbidden(&self, what: impl Into<String>) -> ImportError {
        ImportError::Forbidden { place: self.here(), what: what.into() }
    }

    /// Reads one event; false at the end.
    fn step(&mut self) -> Result<bool, ImportError> {
        let event = self.reader.read_event();
        match event.map_err(|error| not_xml(self.reader.error_position(), error))? {
            Event::Eof => return Ok(false),
            Event::Decl(declaration) => self.declaration(&declaration)?,
            Event::DocType(_) => return Err(self.forbidden("a DOCTYPE")),
            Event::Comment(_) | Event::PI(_) => {}
            Event::Start(start) => self.start(&start)?,
            Event::Empty(start) => {
                self.start(&start)?;
                self.open.pop();
            }
            Event::End(_) => self.end()?,
            Event::Text(text) if text.contains("]]>") => {
                return Err(not_xml(self.at(), "]]> outside a CDATA section"));
            }
            Event::Text(text) => self.text(&text.xml10_content())?,
            Event::CData(data) => self.text(&data.xml10_content())?,
            Event::GeneralRef(reference) => self.reference(&reference)?,
        }
        Ok(true)
    }

    fn declaration(&self, declaration: &BytesDecl<'_>) -> Result<(), ImportError> {
        if !self.tree.nodes.is_empty() {
            return Err(not_xml(self.at(), "an XML declaration that is not at the beginning"));
        }
        match declaration.version() {
            Ok(version) if version == "1.0" => Ok(()),
            Ok(version) => Err(not_xml(0, format!("XML version {:?}", shorten(&version)))),
            Err(error) => Err(not_xml(0, error)),
        }
    }

    fn start(&mut self, start: &BytesStart<'_>) -> Result<(), ImportError> {
        self.check_limits()?;
        let name = self.element_name(start)?;
        let attributes = self.attributes(start)?;
        let (id, parent) = (self.tree.nodes.len() as u32, self.open.last().copied());
        if let Some(parent) = parent {
            let last = self.tree.nodes[parent as usize].last;
            self.tree.nodes[parent as usize].last = id;
            match self.tree.nodes.get_mut(last as usize) {
                Some(last) => last.next = id,
                None => self.tree.nodes[parent as usize].first = id,
            }
        }
        let parent = parent.unwrap_or(NONE);
        let used = Cell::new(false);
        let text = String::new();
        let (first, last, next) = (NONE, NONE, NONE);
        self.tree.nodes.push(Node { name, attributes, text, parent, first, last, next, used });
        self.open.push(id);
        Ok(())
    }

    fn check_limits(&self) -> Result<(), ImportError> {
        let over = |what, value: usize, limit: usize| {
            let (value, limit) = (value as u64, limit as u64);
            Err(ImportError::Limit { element: self.here(), what, value, limit })
        };
        if self.open.len() >= DEPTH_MAX {
            return over("depth of elements", self.open.len() + 1, DEPTH_MAX);
        }
        if self.tree.nodes.len() >= ELEMENTS_MAX {
            return over("elements", self.tree.nodes.len() + 1, ELEMENTS_MAX);
        }
        if self.open.is_empty() && !self.tree.nodes.is_empty() {
            return Err(not_xml(self.at(), "a second outermost element"));
        }
        Ok(())
    }

    fn element_name(&self, start: &BytesStart<'_>) -> Result<String, ImportError> {
        let qualified = start.name();
        check_name(qualified.into_inner()).map_err(|cause| not_xml(self.at(), cause))?;
        let (space, local) = self.reader.resolver().resolve_element(qualified);
        let space = self.space(&space)?;
        self.vocabulary.name(space, local.into_inner()).map_err(|what| self.forbidden(what))
    }

    fn space<'r>(&self, space: &'r ResolveResult<'_>) -> Result<Option<&'r str>, ImportError> {
        match space {
            ResolveResult::Unbound => Ok(None),
            // `xmlns=""` takes the default namespace away.
            ResolveResult::Bound(space) if space.into_inner().is_empty() => Ok(None),
            ResolveResult::Bound(space) => Ok(Some(space.into_inner())),
            ResolveResult::Unknown(prefix) => {
                let cause = format!("the prefix {:?} has no namespace", shorten(prefix));
                Err(not_xml(self.at(), cause))
            }
        }
    }

    fn attributes(&self, start: &BytesStart<'_>) -> Result<Vec<Attribute>, ImportError> {
        let mut attributes = Vec::new();
        let mut count = 0;
        for attribute in start.attributes() {
            count += 1;
            if count > ATTRIBUTES_MAX {
                let (value, limit) = (count as u64, ATTRIBUTES_MAX as u64);
                let what = "attributes of one element";
                return Err(ImportError::Limit { element: self.here(), what, value, limit });
            }
            let attribute = attribute.map_err(|error| not_xml(self.at(), error))?;
            check_name(attribute.key.into_inner()).map_err(|cause| not_xml(self.at(), cause))?;
            let value = match attribute.normalized_value(XmlVersion::Implicit1_0) {
                Err(XmlError::Escape(EscapeError::UnrecognizedEntity(_, name))) => {
                    return Err(self.forbidden(format!("the entity &{};", shorten(&name))));
                }
                value => value.map_err(|error| not_xml(self.at(), error))?.into_owned(),
            };
            if attribute.value.contains('<') || !value.chars().all(is_xml_char) {
                return Err(not_xml(self.at(), "an attribute with a character not allowed there"));
            }
            if attribute.key.as_namespace_binding().is_some() {
                continue;
            }
            let (space, local) = self.reader.resolver().resolve_attribute(attribute.key);
            let name = match (self.space(&space)?, local.into_inner()) {
                (Some(XSI), "nil") => return Err(self.forbidden("xsi:nil")),
                (Some(space), _) if self.vocabulary == Vocabulary::Plain => {
                    let what = format!("an attribute of the namespace {:?}", shorten(space));
                    return Err(self.forbidden(what));
                }
                // Hints for schema tools, no content.
                (Some(XSI), _) => continue,
                (Some(space), local) => format!("{{{}}}{local}", shorten(space)),
                (None, local) => local.to_owned(),
            };
            attributes.push(Attribute { name, value, used: Cell::new(false) });
        }
        Ok(attributes)
    }

    fn end(&mut self) -> Result<(), ImportError> {
        if let Some(id) = self.open.last() {
            let node = &self.tree.nodes[*id as usize];
            if node.first != NONE && !node.text.trim().is_empty() {
                return Err(ImportError::Malformed {
                    element: self.here(),
                    value: shorten(node.text.trim()),
                    cause: "text stands beside elements".into(),
                });
            }
        }
        self.open.pop();
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), ImportError> {
        match self.open.last() {
            Some(id) => self.tree.nodes[*id as usize].text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(not_xml(self.at(), "text outside the outermost element")),
        }
        Ok(())
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), ImportError> {
        let character = match &**reference {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            name => match reference.resolve_char_ref() {
                Ok(Some(c)) if is_xml_char(c) => c,
                Ok(None) => return Err(self.forbidden(format!("the entity &{};", shorten(name)))),
                _ => return Err(not_xml(self.at(), format!("reference &{};", shorten(name)))),
            },
        };
        self.text(character.encode_utf8(&mut [0; 4]))
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let part = |part: &str| {
        part.chars().all(plain) && part.starts_with(|c: char| c.is_alphabetic() || c == '_')
    };
    let mut parts = name.splitn(3, ':');
    let holds = parts.next().is_some_and(part) && parts.next().is_none_or(part);
    if holds && parts.next().is_none() {
        Ok(())
    } else {
        Err(format!("the name {:?}", shorten(name)))
    }
}

impl<'t> Element<'t> {
    fn node(self) -> &'t Node {
        &self.tree.nodes[self.id as usize]
    }

    fn link(self, id: u32) -> Option<Element<'t>> {
        (id != NONE).then_some(Element { tree: self.tree, id })
    }

    /// Its name with the fixed prefix of its namespace.
    pub(crate) fn name(self) -> &'t str {
        &self.node().name
    }

    /// Its text, trimmed; the element counts as used.
    pub(crate) fn text(self) -> &'t str {
        self.node().used.set(true);
        self.peek()
    }

    /// Its text, trimmed, without using it.
    pub(crate) fn peek(self) -> &'t str {
        self.node().text.trim_matches([' ', '\t', '\r', '\n'])
    }

    /// An attribute, trimmed, without using it.
    pub(crate) fn attribute(self, name: &str) -> Option<&'t str> {
        self.node().attributes.iter().find(|a| a.name == name).map(|a| a.value.trim())
    }

    /// The attribute counts as used.
    pub(crate) fn use_attribute(self, name: &str) {
        let named = self.node().attributes.iter().find(|attribute| attribute.name == name);
        if let Some(attribute) = named {
            attribute.used.set(true);
        }
    }

    /// The elements in it.
    pub(crate) fn children(self) -> impl Iterator<Item = Element<'t>> {
        std::iter::successors(self.link(self.node().first), |child| child.link(child.node().next))
    }

    /// The elements in it that have this name.
    pub(crate) fn all(self, name: &str) -> impl Iterator<Item = Element<'t>> {
        self.children().filter(move |child| child.name() == name)
    }

    /// The element at the end of a path of names, or `None`; each of them may stand there once.
    pub(crate) fn find(self, path: &str) -> Result<Option<Element<'t>>, ImportError> {
        let mut here = self;
        for name in path.split('/') {
            let mut found = here.all(name);
            let Some(first) = found.next() else { return Ok(None) };
            if let Some(second) = found.next() {
                return Err(second.malformed("stands more than once; at most one is allowed"));
            }
            here = first;
        }
        Ok(Some(here))
    }

    /// The element at the end of a path, which must be there and not empty.
    pub(crate) fn need(self, path: &str) -> Result<Element<'t>, ImportError> {
        match self.find(path)? {
            Some(found) if found.node().first != NONE || !found.peek().is_empty() => Ok(found),
            _ => Err(ImportError::Missing { element: format!("{}/{path}", self.path()) }),
        }
    }

    /// An error about its value.
    pub(crate) fn malformed(self, cause: impl Into<String>) -> ImportError {
        let (element, value) = (self.path(), shorten(self.peek()));
        ImportError::Malformed { element, value, cause: cause.into() }
    }

    /// Its path for messages, counting from 1 where several have its name.
    pub(crate) fn path(self) -> String {
        self.path_with(|element, parent| {
            let alike = || parent.all(element.name());
            let place = alike().position(|other| other.id == element.id).unwrap_or(0) + 1;
            if alike().nth(1).is_some() { format!("[{place}]") } else { String::new() }
        })
    }

    /// Its path without places.
    pub(crate) fn plain_path(self) -> String {
        self.path_with(|_, _| String::new())
    }

    fn path_with(self, place: impl Fn(Element<'t>, Element<'t>) -> String) -> String {
        let mut parts = Vec::new();
        let mut here = Some(self);
        while let Some(element) = here {
            let parent = element.link(element.node().parent);
            let place = parent.map(|parent| place(element, parent)).unwrap_or_default();
            parts.push(format!("/{}{place}", element.name()));
            here = parent;
        }
        parts.reverse();
        parts.concat()
    }
}
