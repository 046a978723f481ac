#include "data/source/source_json.h"

#include <simdjson.h>

#include <cstdio>
#include <new>

using std::string_view;

static_assert(WEFT_JSON_PADDING >= simdjson::SIMDJSON_PADDING, "simdjson reads this far behind a line");

struct weft_json {
    simdjson::dom::parser parser;
    string_view text_field, url_field;
    char why[160];
};

extern "C" weft_json *weft_json_new(const char *text_field, const char *url_field) {
    weft_json *j = new (std::nothrow) weft_json;
    if (!j) return nullptr;
    j->text_field = text_field;
    j->url_field = url_field;
    return j;
}
extern "C" void weft_json_free(weft_json *j) {
    delete j;
}

/* The member of this name, or of a member of the name before a dot. */
static simdjson::simdjson_result<simdjson::dom::element> find(simdjson::dom::object object,
                                                              string_view field) {
    auto found = object.at_key(field);
    while (found.error() == simdjson::NO_SUCH_FIELD) {
        size_t dot = field.find('.');
        if (dot == string_view::npos || object.at_key(field.substr(0, dot)).get(object)) break;
        field.remove_prefix(dot + 1);
        found = object.at_key(field);
    }
    return found;
}

static weft_json_result wrong(weft_json *j, weft_json_document *out, const char *format, string_view field) {
    snprintf(j->why, sizeof j->why, format, (int)field.size(), field.data());
    out->why = j->why;
    return WEFT_JSON_MALFORMED;
}

/* A string that need not be there; null is as good as absent. False: something else is there. */
static bool optional(simdjson::dom::object object, string_view field, const char **text, size_t *bytes) {
    simdjson::dom::element element;
    string_view value;
    if (find(object, field).get(element) || element.is_null()) return true;
    if (element.get(value)) return false;
    *text = value.data();
    *bytes = value.size();
    return true;
}

extern "C" weft_json_result weft_json_parse(weft_json *j, const char *line, size_t bytes,
                                            weft_json_document *out) {
    simdjson::dom::element root, element;
    simdjson::dom::object object;
    string_view text;
    *out = weft_json_document{};
    auto error = j->parser.parse(line, bytes, false).get(root);
    out->why = simdjson::error_message(error);
    if (error == simdjson::MEMALLOC) return WEFT_JSON_NO_MEMORY;
    if (error == simdjson::UTF8_ERROR) return WEFT_JSON_BAD_UTF8;
    if (error == simdjson::STRING_ERROR) return WEFT_JSON_BAD_STRING;
    if (error) return WEFT_JSON_MALFORMED;
    if (root.get(object)) return wrong(j, out, "not a JSON object%.*s", "");
    if (find(object, j->text_field).get(element)) return wrong(j, out, "it has no \"%.*s\"", j->text_field);
    if (element.get(text)) return wrong(j, out, "\"%.*s\" is not a string", j->text_field);
    if (!optional(object, "domain", &out->domain, &out->domain_bytes))
        return wrong(j, out, "\"%.*s\" is not a string", "domain");
    if (!optional(object, j->url_field, &out->url, &out->url_bytes))
        return wrong(j, out, "\"%.*s\" is not a string", j->url_field);
    out->text = text.data();
    out->text_bytes = text.size();
    return WEFT_JSON_OK;
}

extern "C" bool weft_utf8_valid(const char *text, size_t bytes) {
    return simdjson::validate_utf8(text, bytes);
}
