#include "data/source/source_json.h"

#include <simdjson.h>

#include <new>

static_assert(WEFT_JSON_PADDING >= simdjson::SIMDJSON_PADDING, "simdjson reads this far behind a line");

struct weft_json {
    simdjson::dom::parser parser;
};

extern "C" weft_json *weft_json_new(void) {
    return new (std::nothrow) weft_json;
}
extern "C" void weft_json_free(weft_json *j) {
    delete j;
}

extern "C" const char *weft_json_parse(weft_json *j, const char *line, size_t bytes,
                                       weft_json_document *out) {
    simdjson::dom::element root;
    simdjson::dom::object object;
    std::string_view text, domain;
    auto error = j->parser.parse(line, bytes, false).get(root);
    if (error) return simdjson::error_message(error);
    if (root.get(object)) return "not a JSON object";
    error = object["text"].get(text);
    if (error == simdjson::NO_SUCH_FIELD) return "it has no \"text\"";
    if (error) return "\"text\" is not a string";
    error = object["domain"].get(domain);
    if (error && error != simdjson::NO_SUCH_FIELD) return "\"domain\" is not a string";
    *out = {text.data(), error ? nullptr : domain.data(), text.size(), domain.size()};
    return nullptr;
}

extern "C" bool weft_utf8_valid(const char *text, size_t bytes) {
    return simdjson::validate_utf8(text, bytes);
}
