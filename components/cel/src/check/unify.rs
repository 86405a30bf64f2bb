//! Which type fits where, and what that says about types not yet known.

use std::sync::Arc;

use crate::types::Type;

/// What is known of type parameters. Attempts can be taken back.
#[derive(Default)]
pub struct Bindings {
    bound: Vec<Option<Type>>,
    /// What was bound before each change.
    trail: Vec<(usize, Option<Type>)>,
}

/// A point to go back to.
#[derive(Clone, Copy)]
pub struct Mark(usize);

impl Bindings {
    pub fn fresh(&mut self) -> Type {
        self.bound.push(None);
        Type::Param(self.bound.len() - 1)
    }

    /// A signature's types with its own parameters replaced by fresh ones.
    pub fn instantiate(&mut self, types: &[Type]) -> Vec<Type> {
        let mut fresh: Vec<(usize, Type)> = Vec::new();
        types.iter().map(|t| self.instance(t, &mut fresh)).collect()
    }

    fn instance(&mut self, ty: &Type, fresh: &mut Vec<(usize, Type)>) -> Type {
        match ty {
            Type::Param(number) => match fresh.iter().find(|(n, _)| n == number) {
                Some((_, known)) => known.clone(),
                None => {
                    let new = self.fresh();
                    fresh.push((*number, new.clone()));
                    new
                }
            },
            Type::List(inner) => Type::list(self.instance(inner, fresh)),
            Type::Optional(inner) => Type::optional(self.instance(inner, fresh)),
            Type::Type(inner) => Type::Type(Arc::new(self.instance(inner, fresh))),
            Type::Map(key, value) => Type::map(self.instance(key, fresh), self.instance(value, fresh)),
            other => other.clone(),
        }
    }

    pub fn mark(&self) -> Mark {
        Mark(self.trail.len())
    }

    pub fn undo(&mut self, mark: Mark) {
        while self.trail.len() > mark.0 {
            if let Some((number, before)) = self.trail.pop()
                && let Some(slot) = self.bound.get_mut(number)
            {
                *slot = before;
            }
        }
    }

    fn set(&mut self, number: usize, ty: Type) {
        if let Some(slot) = self.bound.get_mut(number) {
            self.trail.push((number, slot.take()));
            *slot = Some(ty);
        }
    }

    /// The outermost constructor, once parameters are followed.
    pub fn head(&self, ty: &Type) -> Type {
        let mut ty = ty.clone();
        while let Type::Param(number) = ty {
            match self.bound.get(number) {
                Some(Some(known)) => ty = known.clone(),
                _ => return Type::Param(number),
            }
        }
        ty
    }

    /// With everything that is known filled in; what is not known is dynamic.
    pub fn resolve(&self, ty: &Type) -> Type {
        match self.head(ty) {
            Type::Param(_) => Type::Dyn,
            Type::List(inner) => Type::list(self.resolve(&inner)),
            Type::Optional(inner) => Type::optional(self.resolve(&inner)),
            Type::Type(inner) => Type::Type(Arc::new(self.resolve(&inner))),
            Type::Map(key, value) => Type::map(self.resolve(&key), self.resolve(&value)),
            other => other,
        }
    }

    fn occurs(&self, number: usize, ty: &Type) -> bool {
        match self.head(ty) {
            Type::Param(other) => other == number,
            Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => self.occurs(number, &inner),
            Type::Map(key, value) => self.occurs(number, &key) || self.occurs(number, &value),
            _ => false,
        }
    }

    /// Whether `given` can stand where `wanted` is; remembers what that means for parameters.
    pub fn assignable(&mut self, wanted: &Type, given: &Type) -> bool {
        let mark = self.mark();
        let fits = self.fit(wanted, given);
        if !fits {
            self.undo(mark);
        }
        fits
    }

    fn fit(&mut self, wanted: &Type, given: &Type) -> bool {
        match (wanted, given) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (Type::Param(number), other) => self.bind(*number, other, true),
            (other, Type::Param(number)) => self.bind(*number, other, false),
            (Type::Dyn | Type::Error, _) | (_, Type::Dyn | Type::Error) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fit(a, b),
            // types are values of one kind, whatever they are types of
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Map(a, b), Type::Map(c, d)) => self.fit(a, c) && self.fit(b, d),
            (Type::Null, other) | (other, Type::Null) => other.takes_null(),
            (a, b) => a == b,
        }
    }

    fn bind(&mut self, number: usize, other: &Type, is_wanted: bool) -> bool {
        let known = self.bound.get(number).cloned().flatten();
        match known {
            Some(known) => {
                let fits = if is_wanted { self.fit(&known, other) } else { self.fit(other, &known) };
                // the more general of both holds from here on
                if fits && self.head(other).is_dyn() && !known.is_dyn() && !matches!(known, Type::Param(_)) {
                    self.set(number, Type::Dyn);
                }
                fits
            }
            None => match self.head(other) {
                Type::Param(same) if same == number => true,
                head if self.occurs(number, &head) => false,
                _ => {
                    self.set(number, other.clone());
                    true
                }
            },
        }
    }

    /// The type that holds both, if one fits where the other is.
    pub fn join(&mut self, first: &Type, second: &Type) -> Option<Type> {
        if !self.assignable(first, second) {
            return None;
        }
        let general = match (self.head(first), self.head(second)) {
            (Type::Dyn, _) | (_, Type::Dyn) => Type::Dyn,
            (Type::Null, other) => other,
            (other, _) => other,
        };
        Some(general)
    }
}
