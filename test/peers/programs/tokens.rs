//! What a compiler does to Rust: generics, closures, traits, iterators, panics, and the standard library inlined into it all.
use std::collections::{BTreeMap, HashMap};
use std::fmt;

#[derive(Debug, Clone)]
enum Token {
    Number(f64),
    Operator(char),
    Name(String),
}

impl fmt::Display for Token {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Token::Number(n) => write!(out, "{n}"),
            Token::Operator(c) => write!(out, "{c}"),
            Token::Name(s) => out.write_str(s),
        }
    }
}

fn read(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = vec![];
    let mut rest = text.chars().peekable();
    while let Some(&c) = rest.peek() {
        if c.is_whitespace() {
            rest.next();
        } else if c.is_ascii_digit() {
            let mut digits = String::new();
            while let Some(d) = rest.next_if(|d| d.is_ascii_digit() || *d == '.') {
                digits.push(d);
            }
            tokens.push(Token::Number(digits.parse().map_err(|e| format!("{digits}: {e:?}"))?));
        } else if c.is_alphabetic() {
            tokens.push(Token::Name(rest.by_ref().take_while(|c| c.is_alphanumeric()).collect()));
        } else {
            tokens.push(Token::Operator(c));
            rest.next();
        }
    }
    Ok(tokens)
}

trait Visit {
    fn visit(&mut self, token: &Token);
}

struct Count(BTreeMap<String, usize>);

impl Visit for Count {
    fn visit(&mut self, token: &Token) {
        *self.0.entry(token.to_string()).or_default() += 1;
    }
}

fn main() {
    let mut count = Count(BTreeMap::new());
    let mut seen: HashMap<usize, Vec<u8>> = HashMap::new();
    for (index, text) in std::env::args().enumerate() {
        match read(&text) {
            Ok(tokens) => tokens.iter().for_each(|token| count.visit(token)),
            Err(error) => eprintln!("{error}"),
        }
        seen.insert(index, text.bytes().rev().collect());
    }
    let mut all: Vec<_> = count.0.into_iter().collect();
    all.sort_by(|a, b| b.1.cmp(&a.1));
    println!("{all:?} {}", seen.len());
}
