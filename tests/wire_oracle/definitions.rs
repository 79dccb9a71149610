//! The definitions of `src/wire/messages`, read as samples.

/// Declares the module of each row of the API table.
macro_rules! declare {
    ($($name:ident = $key:literal, $versions:expr, advertised $advertised:expr,
        flexible $flexible:expr, $kind:ident $module:ident:
        $request:ident $(<$a:lifetime>)? => $response:ident $(<$r:lifetime>)?;)*) => {
        $(mod $module;)*
    };
}

#[path = "../../src/wire/messages"]
mod messages {
    mod common;
    corelane::for_each_api!(declare);
}
