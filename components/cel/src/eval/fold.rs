//! Folds: what macros such as `all` and `map` are.

use crate::{
    ast::{ACCU, Expr, Fold, Kind},
    cost,
    eval::{Answer, Ctx, Fault},
    functions::lists,
    value::Val,
};

impl<'a> Ctx<'a> {
    pub(super) fn fold(&mut self, fold: &Fold) -> Answer<'a> {
        let range = self.eval(&fold.range)?;
        // the accumulator may come to hold a failure, which a later element can still decide against
        let mut accu = Ok(self.eval(&fold.init)?);
        let outside = self.locals.len();
        let result = self.run_fold(fold, &range, &mut accu, outside);
        self.locals.truncate(outside);
        result
    }

    fn run_fold(&mut self, fold: &Fold, range: &Val<'a>, accu: &mut Answer<'a>, outside: usize) -> Answer<'a> {
        if !fold.is_bind() {
            match range {
                Val::List(list) => {
                    for (index, item) in list.iter().enumerate() {
                        let pair = match fold.var2 {
                            Some(_) => (Val::Int(index as i64), Some(item)),
                            None => (item, None),
                        };
                        if !self.round(fold, accu, pair, outside)? {
                            break;
                        }
                    }
                }
                Val::Map(map) => {
                    for key in map.keys() {
                        let value = if fold.var2.is_some() { map.get(&key) } else { None };
                        if !self.round(fold, accu, (key.value(), value), outside)? {
                            break;
                        }
                    }
                }
                _ => return Err(Fault::new(format!("got '{}', expected iterable type", range.type_name()))),
            }
        }
        self.locals.truncate(outside);
        let accu = std::mem::replace(accu, Ok(Val::Null))?;
        self.locals.push((fold.accu.clone(), accu));
        self.eval(&fold.result)
    }

    /// One element; `false` when the fold is over.
    fn round(
        &mut self,
        fold: &Fold,
        accu: &mut Answer<'a>,
        (first, second): (Val<'a>, Option<Val<'a>>),
        outside: usize,
    ) -> Result<bool, Fault> {
        self.locals.truncate(outside);
        let failed = match std::mem::replace(accu, Ok(Val::Null)) {
            Ok(value) => {
                self.locals.push((fold.accu.clone(), value));
                None
            }
            Err(fault) => {
                self.locals.push((fold.accu.clone(), Val::Null));
                Some(fault)
            }
        };
        self.locals.push((fold.var.clone(), first));
        if let (Some(name), Some(value)) = (&fold.var2, second) {
            self.locals.push((name.clone(), value));
        }
        let go_on = match &failed {
            Some(_) => true,
            None => !matches!(self.eval(&fold.cond)?, Val::Bool(false)),
        };
        if !go_on {
            *accu = self.take_accu(outside);
            return Ok(false);
        }
        *accu = match failed {
            Some(fault) => self.after_failure(&fold.step, fault),
            None => self.step(&fold.step, outside),
        };
        match accu {
            Err(fault) if fault.fatal => Err(fault.clone()),
            // only all() and exists() can get over a failure
            Err(fault) if !is_logic(&fold.step) => Err(fault.clone()),
            _ => Ok(true),
        }
    }

    fn take_accu(&mut self, outside: usize) -> Answer<'a> {
        Ok(self.locals.get_mut(outside).map_or(Val::Null, |(_, value)| std::mem::replace(value, Val::Null)))
    }

    /// `accu && predicate` where `accu` failed: the predicate may decide.
    fn after_failure(&mut self, step: &Expr, fault: Fault) -> Answer<'a> {
        let Kind::Call { function, args, .. } = &step.kind else { return Err(fault) };
        let decisive = &**function == "_||_";
        match args.get(1).map(|predicate| self.eval(predicate)) {
            Some(Ok(Val::Bool(b))) if b == decisive => Ok(Val::Bool(decisive)),
            Some(Err(other)) if other.fatal => Err(other),
            _ => Err(fault),
        }
    }

    /// The next accumulator. Lists and maps that macros gather grow in place; the cost is that of the plain way.
    fn step(&mut self, step: &Expr, outside: usize) -> Answer<'a> {
        let Kind::Call { function, args, .. } = &step.kind else { return self.eval(step) };
        match (&**function, args.as_slice()) {
            ("_?_:_", [predicate, yes, no]) if is_accu(no) => match self.eval(predicate)? {
                Val::Bool(true) => self.step(yes, outside),
                Val::Bool(false) => {
                    self.spend(1)?;
                    self.take_accu(outside)
                }
                _ => Err(Fault::new("no such overload")),
            },
            ("_+_", [accu, Expr { kind: Kind::List(items), .. }]) if is_accu(accu) && items.len() == 1 => {
                let [item] = items.as_slice() else { return self.eval(step) };
                let value = self.eval(&item.value)?;
                self.spend(1 + cost::LIST_BASE + 1)?;
                let list = self.take_accu(outside)?;
                lists::push(self, list, value)
            }
            ("cel.@mapInsert", [accu, rest @ ..]) if is_accu(accu) => {
                let mut values = Vec::with_capacity(rest.len());
                for node in rest {
                    values.push(self.eval(node)?);
                }
                self.spend(2)?;
                let map = self.take_accu(outside)?;
                lists::insert_into(self, map, &values)
            }
            _ => self.eval(step),
        }
    }
}

fn is_accu(node: &Expr) -> bool {
    matches!(&node.kind, Kind::Ident(name) if &**name == ACCU)
}

fn is_logic(step: &Expr) -> bool {
    matches!(&step.kind, Kind::Call { function, .. } if matches!(&**function, "_&&_" | "_||_"))
}
