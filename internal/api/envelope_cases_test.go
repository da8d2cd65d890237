package api

import (
	"maps"
	"strings"
)

func nested(levels int, open, end string) string {
	return strings.Repeat(open, levels) + strings.Repeat(end, levels)
}

// goodEnvelopes are bodies with the payload that is to come out of them.
func goodEnvelopes() map[string]string {
	bodies := map[string]string{
		" \t\r\n{ \"type\" : \"t\" ,\n\"payload\":\t{ \"a\" : [ 1 , 2 ] } \r\n} \t\r\n": `{ "a" : [ 1 , 2 ] }`,
		`{"typ\u0065":"t","\u0070ayload":1,"dedup\u005Fid":"d"}`:                        `1`,
		`{"type":"t","payload":[],"Payload":1,"PAYLOAD":2,"payload ":3,"pay":4}`:        `[]`,
		`{"payload":"x","x":1,"x":2,"":3,"":4,"type":"t","\ud800":5,"\u0000":6}`:        `"x"`,
		`{"payload":1,"type":"t","x":{"payload":2,"type":3,"a":[{"payload":4}]}}`:       `1`,
		`{"x":"\",\"payload\":2,\"y\":\"\\","payload":3,"type":"t"}`:                    `3`,
		`{"\\\"":0,"type":"t","payload":{"payload":1,"payload":2}}`:                     `{"payload":1,"payload":2}`,
		`{"\ud800\u0022,\"payload\":":1,"type":"t","payload":2}`:                        `2`,
		`{"type":"\"\\\/\ud83d\ude00\u00e9é😀","payload":0}`:                             `0`,
		`{"type":"\\ud800","payload":1,"dedup_id":"\"\\\\udfff"}`:                       `1`,
		`{"type":"t","payload":1,"dedup_id":null}`:                                      `1`,
		`{"type":"` + strings.Repeat("t", 255) + `","payload":1}`:                       `1`,
		`{"type":"t","payload":1,"dedup_id":"` + strings.Repeat(`\u0064`, 255) + `"}`:   `1`,
	}
	for _, payload := range []string{
		`null`, `true`, `false`, `0`, `-0`, `0.10`, `1e400`, `1E+999999`, `1e999999`, `-1e-999999`, `9007199254740993`,
		`123456789012345678901234567890`, `""`, `[]`, `{}`, `[ ]`, "{\n}", `{"b":1,"a":2,"b":3}`, `"\u0000"`, `"\ud800"`,
		`"\udc00\ud800"`, `"\u00e9é\/<>&"`, `{"é":"é"}`, "\"\u2028\x7f\"", `[{"}":"]"},"[{"]`, `"\\"`, `"\\\""`, `"\"}"`,
		`[1,[2,[3,{"a":{}}]]]`, nested(63, "[", "]"), nested(62, `{"a":`, ``) + "{}" + nested(62, "", "}"),
		`"` + strings.Repeat("[", 100) + `"`, `"` + strings.Repeat(`\"[`, 100) + `"`,
	} {
		bodies[`{"type":"a.b","payload":`+payload+`,"dedup_id":"d"}`] = payload
		bodies[`{"payload" : `+payload+"\n\t"+`,"type":"a.b"}`] = payload
		bodies[`{"type":"a.b","payload":`+payload+`}`] = payload
	}
	return bodies
}

// badEnvelopes are bodies with a part of the message that they must get.
func badEnvelopes() map[string]string {
	const bom = "\ufeff"
	bodies := map[string]string{
		"": "not valid JSON", " ": "not valid JSON", bom + `{"type":"t","payload":1}`: "not valid JSON",
		"\x00":     "not valid JSON",
		"null":     "must be a JSON object",
		"true":     "must be a JSON object",
		"1":        "must be a JSON object",
		`"{}"`:     "must be a JSON object",
		"[]":       "must be a JSON object",
		"[{}]":     "must be a JSON object",
		"{}":       "type is missing",
		"{} {}":    "not valid JSON",
		"{},":      "not valid JSON",
		"{}x":      "not valid JSON",
		"{}\x00":   "not valid JSON",
		"{\f}":     "not valid JSON",
		"{\u00a0}": "not valid JSON",

		`{"type":"t","payload":1}{"type":"t","payload":1}`:        "not valid JSON",
		`{"type":"t","payload":1} // comment`:                     "not valid JSON",
		`{/* comment */"type":"t","payload":1}`:                   "not valid JSON",
		`{"type":"t","payload":1,}`:                               "not valid JSON",
		`{'type':'t','payload':1}`:                                "not valid JSON",
		`{type:"t","payload":1}`:                                  "not valid JSON",
		"{\"type\":\"t\n\",\"payload\":1}":                        "not valid JSON",
		"{\"type\":\"t\x00\",\"payload\":1}":                      "not valid JSON",
		`{"type":"\x41","payload":1}`:                             "not valid JSON",
		`{"type":"\u12","payload":1}`:                             "not valid JSON",
		`{"payload":1}`:                                           "type is missing",
		`{"Type":"t","payload":1}`:                                "type is missing",
		`{"type":null,"payload":1}`:                               "type is missing",
		`{"type":"","payload":1}`:                                 "type must not be empty",
		`{"type":1,"payload":1}`:                                  "type must be a string",
		`{"type":["t"],"payload":1}`:                              "type must be a string",
		`{"type":{},"payload":1}`:                                 "type must be a string",
		`{"type":false,"payload":1}`:                              "type must be a string",
		`{"type":"a\u0000","payload":1}`:                          "type must not have a NUL",
		`{"type":"\ud800","payload":1}`:                           "type must not have a lone surrogate",
		`{"type":"\uDFFF","payload":1}`:                           "type must not have a lone surrogate",
		`{"type":"\ude00\ud83d","payload":1}`:                     "type must not have a lone surrogate",
		`{"type":"\ud83d\ud83d\ude00","payload":1}`:               "type must not have a lone surrogate",
		`{"type":"\ud83d\\ude00","payload":1}`:                    "type must not have a lone surrogate",
		`{"type":"\ud83d \ude00","payload":1}`:                    "type must not have a lone surrogate",
		`{"type":"a\n","payload":1}`:                              "control characters",
		`{"type":"\u007f","payload":1}`:                           "control characters",
		`{"type":"` + strings.Repeat("t", 256) + `"}`:             "payload is missing",
		`{"type":"` + strings.Repeat("t", 256) + `","payload":1}`: "at most 255 bytes",
		`{"type":"t"}`:                                            "payload is missing",
		`{"type":"t","Payload":1,"x":{"payload":1}}`:              "payload is missing",
		`{"type":"t","type":"t","payload":1}`:                     "type must appear only once",
		`{"type":"t","typ\u0065":"t","payload":1}`:                "type must appear only once",
		`{"type":null,"payload":1,"type":"t"}`:                    "type must appear only once",
		`{"type":"t","payload":null,"\u0070\u0061yload":null}`:    "payload must appear only once",
		`{"type":"t","payload":1,"dedup_id":null,"dedup_id":"d"}`: "dedup_id must appear only once",
	}
	maps.Copy(bodies, badDedupIDs())
	for _, deep := range []string{
		nested(64, "[", "]"), nested(63, `{"a":`, "") + "{}" + nested(63, "", "}"), nested(5000, "[", "]"), nested(20000, "[", "]"),
	} {
		bodies[`{"type":"t","payload":`+deep+`}`] = "nested at most 64 levels deep"
		bodies[`{"type":"t","payload":1,"unknown":`+deep+`}`] = "nested at most 64 levels deep"
	}
	return bodies
}

func badDedupIDs() map[string]string {
	bodies := map[string]string{}
	for dedupID, message := range map[string]string{
		`""`: "must not be empty", `0`: "must be a string", `1`: "must be a string", `false`: "must be a string",
		`[]`: "must be a string", `{}`: "must be a string", `["d"]`: "must be a string", `"\u0000"`: "must not have a NUL",
		`"d\u0000d"`: "must not have a NUL", `"\ud800"`: "lone surrogate", `"d\udfffd"`: "lone surrogate",
		`"` + strings.Repeat("d", 256) + `"`: "at most 255 bytes", `"` + strings.Repeat("é", 128) + `"`: "at most 255 bytes",
	} {
		bodies[`{"type":"t","payload":1,"dedup_id":`+dedupID+`}`] = message
	}
	return bodies
}
