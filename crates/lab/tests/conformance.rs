//! Every case of conformance on the running kernel.
#![expect(clippy::unwrap_used, reason = "a test may fail where it stands")]

mod common;

use lab::conform::{Finding, LiveKernel, Verdict, cases, judge};
use lab::program::Geometry;

use common::skip;

const GEOMETRY: Geometry = Geometry::X86_64;

#[test]
fn the_live_kernel_passes() {
    const TEST: &str = "the_live_kernel_passes";
    let (page, wanted) = (sys::puppet::page_size(), GEOMETRY.page);
    if page != wanted {
        let why = format!("the cases are made for pages of {wanted} bytes, not {page}");
        return skip(TEST, &why);
    }
    let mut kernel = LiveKernel::new(GEOMETRY);
    if let Some(error) = kernel.pool_error() {
        println!("cases with huge pages may be skipped: {error}");
    }
    let (mut passed, mut failed) = (0, Vec::new());
    for case in cases(GEOMETRY).unwrap() {
        let Finding {
            family,
            name,
            result,
            why,
        } = judge(&case, &mut kernel);
        match result {
            Verdict::Pass => passed += 1,
            Verdict::Skip => skip(&format!("{TEST}/{family}/{name}"), &why),
            Verdict::Fail => failed.push(format!("{family}/{name}: {why}")),
        }
    }
    println!("{passed} cases passed");
    assert_eq!(failed, Vec::<String>::new());
    assert!(passed > 0);
}
