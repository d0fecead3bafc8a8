//! Fields of an object, by the keys that lead to them.

use serde_json::{Map, Value as Json};

/// Sets a field, with the maps that lead to it; what stands in the way of one makes room.
pub fn put<'a>(object: &mut Json, way: impl IntoIterator<Item = &'a str>, value: Json) {
    let mut place = object;
    for key in way {
        if !place.is_object() {
            *place = Json::Object(Map::new());
        }
        place = &mut place[key];
    }
    *place = value;
}
