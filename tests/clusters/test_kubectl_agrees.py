"""kubectl is the oracle: what it prints and waits for, and what ours says of the same.

Each line of a table is one case. kubectl is asked about objects of a real API server,
ours about the same objects as the API server sends them.
"""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_kube.conditions import parse
from pytest_kube.jsonpath_nodes import EvaluationError
from pytest_kube.kube import Kube
from pytest_kube.kubectl_jsonpath import Template
from pytest_kube.readiness import _RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_kube.cluster import Cluster

GROUP = "agrees.example.com"
SCHEMA = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CRD: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"riches.{GROUP}"},
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"plural": "riches", "singular": "rich", "kind": "Rich"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": SCHEMA},
            }
        ],
    },
}
RICH: dict[str, Any] = {
    "apiVersion": f"{GROUP}/v1",
    "kind": "Rich",
    "metadata": {"name": "r", "labels": {"only": "label"}},
    "spec": {
        "name": "widget",
        "nothing": None,
        "yes": True,
        "no": False,
        "three": 3,
        "zero": 0,
        "negative": -7,
        "big": 9007199254740993,
        "huge": 1e22,
        "half": 0.5,
        "tiny": 0.00000125,
        "million": 1234567.5,
        "numbers": [1, 2, 3, 4, 5],
        "floats": [0.5, 1.5, 2.25],
        "mixed": [1, "a", True, None, {"k": "v"}, [1, 2]],
        "nulls": [None, None],
        "flags": [True, False, True],
        "words": ["x", "y", "z"],
        "nested": [[1, 2], [3, 4]],
        "one": [{"name": "single"}],
        "empty": {"list": [], "map": {}, "text": ""},
        "text": {
            "unicode": "h\u00e9llo w\u00f6rld \u2603 \U0001f600",
            "html": '<a href="x">&</a>',
            "lines": "a\nb\tc",
            "quotes": 'it\'s "quoted"',
            "backslash": "a\\b",
            "braces": "{x}",
            "control": "\u0001\u007f",
            "separators": "\u2028\u2029",
            "blank": "  padded  ",
        },
        "shown": {
            "html": {"k": '<a href="x">&</a>'},
            "control": {"k": '\u0001\b\f\n\r\t\u007f"\\/'},
            "separators": {"k": "\u2028\u2029\u00e9\U0001f600"},
            "numbers": {"k": [1e22, 0.00000125, 1234567.5, 0.5, -7, 1e21, 1.5e-9]},
            "keys": {"b": 1, "a": {"d": None, "c": [True]}, "\u00e9": 2, "B": 3},
        },
        "items": [
            {"name": "a", "n": 1, "load": 0.5, "tags": ["x", "y"], "on": True},
            {"name": "b", "n": 2, "load": 1.5, "tags": [], "on": False},
            {"name": "c d", "n": 3, "load": 2.5, "tags": ["z"], "also": "c d"},
        ],
        "groups": [
            {"id": "g1", "members": [{"id": "m1"}, {"id": "m2"}]},
            {"id": "g2", "members": []},
            {"id": "g3", "members": [{"id": "m3"}]},
        ],
        "single": {"only": {"deep": {"value": 42}}},
        "keys": {
            "a.b/c": "dotted",
            "x-y": "dash",
            "with space": "space",
            "1": "one",
            "\u00fc": "umlaut",
            "*": "star",
            "range": "word",
            "": "nameless",
            "a,b": "comma",
            "a}b": "brace",
            "a]b": "bracket",
            "$a": "dollar",
            "a=b": "equals",
        },
    },
}
RICH_STATUS: dict[str, Any] = {
    "observedGeneration": 2,
    "phase": "Running",
    "blank": " padded ",
    "count": 3,
    "load": 0.5,
    "huge": 1e22,
    "million": 1234567.5,
    "on": True,
    "nothing": None,
    "nil": "<nil>",
    "text": "",
    "assigned": "a=b",
    "double": "b==",
    "list": ["x"],
    "two": ["x", "y"],
    "empty": [],
    "map": {"k": "v"},
    "checks": [
        {"type": "Ready", "status": "True", "reason": "Up", "n": 1},
        {"type": "Broken", "status": "False", "reason": "Down", "n": 2},
        {"type": "Unnumbered", "status": "True"},
    ],
    "conditions": [
        {"type": "Ready", "status": "True", "reason": "Up"},
        {"type": "Behind", "status": "True", "observedGeneration": 1},
        {"type": "Ahead", "status": "True", "observedGeneration": 2},
        {"type": "Broken", "status": "False", "reason": "Down"},
        {"type": "Odd", "status": "Maybe"},
        {"type": "Twice", "status": "True"},
        {"type": "Twice", "status": "False"},
        {"type": "TextGeneration", "status": "True", "observedGeneration": "1"},
        {"type": "NoStatus"},
        {"type": "Bool", "status": True},
        {"type": "Later", "status": 1},
        {"type": "Later", "status": "True"},
        {"type": "Stra\u00dfe", "status": "True"},
        {"type": "example.com/Ready", "status": "True"},
        {"type": "With Space", "status": "True"},
        {"type": 5, "status": "True"},
        "odd",
        None,
    ],
}

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "annotations": {"example.com/note": "hi"}},
    "spec": {
        "schedulerName": "nobody",
        "initContainers": [{"name": "init", "image": "zero"}],
        "containers": [
            {
                "name": "a",
                "image": "one",
                "ports": [{"name": "web", "containerPort": 80}],
            },
            {
                "name": "b",
                "image": "two:2",
                "ports": [{"name": "alt", "containerPort": 8080}],
            },
        ],
    },
    "status": {
        "phase": "Pending",
        "conditions": [
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady"},
            {"type": "PodScheduled", "status": "True"},
        ],
    },
}
NODE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {"name": "n"},
    "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
    "status": {
        "capacity": {"cpu": "4", "example.com/gpu": "2", "memory": "8Gi"},
        "addresses": [
            {"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": "10.0.0.1"},
        ],
        "conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": "MemoryPressure", "status": "False"},
            {"type": "DiskPressure", "status": "Unknown"},
        ],
    },
}
TEMPLATE = {
    "metadata": {"labels": {"app": "d"}},
    "spec": {"containers": [{"name": "main", "image": "main:1"}]},
}
# It is changed afterwards: its status is about an older generation.
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d"},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"app": "d"}},
        "template": TEMPLATE,
    },
    "status": {
        "observedGeneration": 1,
        "replicas": 3,
        "conditions": [
            {"type": "Available", "status": "True"},
            {"type": "Progressing", "status": "False"},
        ],
    },
}

PATHS = r"""
{.spec.name}
{.spec.nothing}
{.spec.yes}
{.spec.no}
{.spec.three}
{.spec.zero}
{.spec.negative}
{.spec.big}
{.spec.huge}
{.spec.half}
{.spec.tiny}
{.spec.million}
{.spec.numbers}
{.spec.floats}
{.spec.mixed}
{.spec.nulls}
{.spec.flags}
{.spec.nested}
{.spec.one}
{.spec.empty}
{.spec.empty.list}
{.spec.empty.map}
{.spec.empty.text}
{.spec.text.unicode}
{.spec.text.html}
{.spec.text.lines}
{.spec.text.quotes}
{.spec.text.backslash}
{.spec.text.braces}
{.spec.text.control}
{.spec.text.separators}
{.spec.text.blank}
{.spec.text}
{.spec.shown}
{.spec.shown.html}
{.spec.shown.control}
{.spec.shown.separators}
{.spec.shown.numbers}
{.spec.shown.keys}
{.spec.items}
{.spec.single}
{.spec.single.only.deep}
{.spec.single.only.deep.value}
{.spec.keys}
{.metadata.labels}
{.metadata.name}
{.kind}
{.apiVersion}
{.absent}
{.spec.absent}
{.spec.absent.further}
{.spec.absent.further[0]}
{.spec.name.further}
{.spec.nothing.further}
{.spec.numbers.further}
{.spec.three.further}
{$.spec.name}
{@.spec.name}
{$.spec.$.name}
{.spec@.name}
{ .spec.name }
{.spec .name}
{  .spec.name}
{['spec']['name']}
{.['spec'].name}
{.spec['name']}
{.spec.['name']}
{$['spec']['name']}
{.spec['single']['only']['deep']}
{.spec['single.only.deep.value']}
{.spec['']}
{.spec.['']}
{.spec.keys['']}
{.spec.keys.a\.b/c}
{.spec.keys['a\.b/c']}
{.spec.keys['a.b/c']}
{.spec.keys.x-y}
{.spec.keys['x-y']}
{.spec.keys.with\ space}
{.spec.keys['with\ space']}
{.spec.keys.1}
{.spec.keys['1']}
{.spec.keys[1]}
{.spec.keys.ü}
{.spec.keys['ü']}
{.spec.keys.\*}
{.spec.keys['\*']}
{.spec.keys.range}
{.spec.keys['range']}
{.spec.keys.}
{.spec.keys.a\,b}
{.spec.keys['a,b']}
{.spec.keys['a\,b']}
{.spec.keys.a\}b}
{.spec.keys['a}b']}
{.spec.keys['a\}b']}
{.spec.keys.a\]b}
{.spec.keys['a\]b']}
{.spec.keys.\$a}
{.spec.keys['\$a']}
{.spec.keys.a=b}
{.spec.keys['a=b']}
{.spec.keys["x-y"]}
{.spec["name"]}
{.spec[name]}
{.sp\ec.name}
{.spec.name\}
"""
LISTS = r"""
{.spec.numbers[0]}
{.spec.numbers[4]}
{.spec.numbers[5]}
{.spec.numbers[-1]}
{.spec.numbers[-2]}
{.spec.numbers[-5]}
{.spec.numbers[-6]}
{.spec.numbers[]}
{.spec.numbers[*]}
{.spec.numbers[ * ]}
{.spec.numbers[ 0 ]}
{.spec.numbers[:]}
{.spec.numbers[::]}
{.spec.numbers[1:]}
{.spec.numbers[:2]}
{.spec.numbers[1:3]}
{.spec.numbers[1:1]}
{.spec.numbers[0:0]}
{.spec.numbers[3:1]}
{.spec.numbers[0:5]}
{.spec.numbers[0:6]}
{.spec.numbers[5:5]}
{.spec.numbers[5:]}
{.spec.numbers[6:]}
{.spec.numbers[-2:]}
{.spec.numbers[:-1]}
{.spec.numbers[-3:-1]}
{.spec.numbers[-1:0]}
{.spec.numbers[-6:]}
{.spec.numbers[::2]}
{.spec.numbers[::9]}
{.spec.numbers[1::2]}
{.spec.numbers[1:5:3]}
{.spec.numbers[:4:2]}
{.spec.numbers[0:5:]}
{.spec.numbers[-]}
{.spec.numbers[:-]}
{.spec.numbers[+1]}
{.spec.numbers[1.0]}
{.spec.numbers[x]}
{.spec.numbers[99999999999999999999]}
{.spec.numbers.[0]}
{.spec.numbers.0}
{.spec.numbers.*}
{.spec.numbers[*][0]}
{.spec.numbers[0][0]}
{.spec.nested[0]}
{.spec.nested[*]}
{.spec.nested[*][0]}
{.spec.nested[*][1:]}
{.spec.nested[*][*]}
{.spec.nested[1][1]}
{.spec.nested[*][1:1]}
{.spec.nested[*][2]}
{.spec.nested.*.*}
{.spec.mixed[0]}
{.spec.mixed[3]}
{.spec.mixed[4]}
{.spec.mixed[4].k}
{.spec.mixed[*].k}
{.spec.mixed[*]}
{.spec.mixed[*][0]}
{.spec.mixed[5][*]}
{.spec.mixed[-1][-1]}
{.spec.nulls[*]}
{.spec.nulls[0]}
{.spec.nulls[*].x}
{.spec.nulls[*][0]}
{.spec.nulls[*][*]}
{.spec.nulls.*}
{.spec.empty.list[*]}
{.spec.empty.list[0]}
{.spec.empty.list[:]}
{.spec.empty.list[1:]}
{.spec.empty.list[::2]}
{.spec.empty.map.*}
{.spec.empty.map[*]}
{.spec.empty.text.*}
{.spec.nothing[0]}
{.spec.nothing[*]}
{.spec.nothing.*}
{.spec.name[0]}
{.spec.name[*]}
{.spec.name.*}
{.spec.text.unicode.*}
{.spec.three[0]}
{.spec.three.*}
{.spec.absent[0]}
{.spec.absent[*]}
{.spec.absent.*}
{.spec.items[*].name}
{.spec.items[*].tags}
{.spec.items[*].tags[*]}
{.spec.items[0].tags[*]}
{.spec.items[*].tags[0]}
{.spec.items[0:2].name}
{.spec.items[0:2].tags[0]}
{.spec.items[-1].name}
{.spec.items[*].on}
{.spec.items[*]['name']}
{.spec.items.name}
{.spec.items[].name}
{.spec.one[*].name}
{.spec.one.*.name}
{.spec.one.*.*}
{.spec.single.*}
{.spec.single.*.*}
{.spec.single.*.*.value}
{.spec.single[*]}
{.metadata.labels.*}
{.spec.numbers[0,2]}
{.spec.numbers[0, 2]}
{.spec.numbers[ 0 , 2 ]}
{.spec.numbers[2,0,0]}
{.spec.numbers[-1,0]}
{.spec.numbers[0:2,3:]}
{.spec.numbers[0,9]}
{.spec.numbers[0,]}
{.spec.numbers[,]}
{.spec.numbers[*,0]}
{.spec['name','three']}
{.spec['three', 'name']}
{.spec['name','absent']}
{.spec['name',0]}
{.spec['single','one']}
{.spec['name',three]}
{.spec['name','single.only.deep.value']}
{.spec['name'}
{.spec.items[*]['name','n']}
{.spec.items[*]['name','absent','n']}
{.spec['name', "three"]}
{.spec.numbers[0,?(@ > 3)]}
{.spec.numbers[?(@ > 3),0]}
{.spec.items..name}
{.spec.items..tags}
{.spec.items[*]..tags[*]}
{.spec.one..name}
{.spec.one..}
{.spec.numbers..}
{.spec.nested..}
{.spec.nested..[0]}
{.spec.single..}
{.spec.single..value}
{.spec.single..['value']}
{.spec.single..*}
{.spec.single...value}
{.spec.single....value}
{.spec.name..}
{.spec.three..}
{.spec.nothing..}
{.spec.empty..list}
{.spec.mixed..k}
{.spec.groups..id}
{..members[*].id}
{..members}
{..absent}
{..value}
{..deep.value}
{.absent..}x
{. .spec.name}
{..deep..value}
"""
FILTERS = r"""
{.spec.items[?(@.name=="b")].n}
{.spec.items[?(@.name=='b')].n}
{.spec.items[?(@.name == "b")].n}
{.spec.items[?( @.name=="b" )].n}
{.spec.items[?(@.name!="b")].n}
{.spec.items[?(@.name>"a")].n}
{.spec.items[?(@.name<"b")].n}
{.spec.items[?(@.name>="b")].n}
{.spec.items[?(@.name<="b")].n}
{.spec.items[?(@.name=="c d")].n}
{.spec.items[?(@.name=="B")].n}
{.spec.items[?(@.name=="")].n}
{.spec.items[?("b"==@.name)].n}
{.spec.items[?("b"=="b")].n}
{.spec.items[?("a"=="b")].n}
{.spec.items[?(@.n==2)].name}
{.spec.items[?(@.n!=2)].name}
{.spec.items[?(@.n<2)].name}
{.spec.items[?(@.n<=2)].name}
{.spec.items[?(@.n>2)].name}
{.spec.items[?(@.n>=2)].name}
{.spec.items[?(@.n>-1)].name}
{.spec.items[?(@.n>+1)].name}
{.spec.items[?(2==@.n)].name}
{.spec.items[?(2<@.n)].name}
{.spec.items[?(@.n==2.0)].name}
{.spec.items[?(@.n>1.5)].name}
{.spec.items[?(@.n=="2")].name}
{.spec.items[?(@.load==1.5)].name}
{.spec.items[?(@.load>1.0)].name}
{.spec.items[?(@.load>=1.50)].name}
{.spec.items[?(@.load>1.)].name}
{.spec.items[?(@.load>1)].name}
{.spec.items[?(@.load<2.5)].name}
{.spec.items[?(@.load!=0.5)].name}
{.spec.items[?(@.load>.1)].name}
{.spec.items[?(@.load>-.1)].name}
{.spec.items[?(@.load<1.2.3)].name}
{.spec.items[?(@.on==true)].name}
{.spec.items[?(@.on==false)].name}
{.spec.items[?(@.on!=true)].name}
{.spec.items[?(@.on)].name}
{.spec.items[?(@.on>false)].name}
{.spec.items[?(@.on=="true")].name}
{.spec.items[?(@.also)].name}
{.spec.items[?(@.absent)].name}
{.spec.items[?(@.absent==1)].name}
{.spec.items[?(@.absent!=1)].name}
{.spec.items[?(@.name==@.also)].n}
{.spec.items[?(@.also==@.name)].n}
{.spec.items[?(@.name!=@.also)].n}
{.spec.items[?(@.tags)].name}
{.spec.items[?(@.tags[0])].name}
{.spec.items[?(@.tags[1])].name}
{.spec.items[?(@.tags[*])].name}
{.spec.items[?(@.name[0])].n}
{.spec.items[?(@.tags=="x")].name}
{.spec.items[?(@.tags[*]=="x")].name}
{.spec.items[0:1][?(@.n)]}
{.spec.items[0:2].tags[?(@=="y")]}
{.spec.items[*].tags[?(@=="z")]}
{.spec.items[?(@['name']=="b")].n}
{.spec.items[?(.name=="b")].n}
{.spec.items[?($.name=="b")].n}
{.spec.items[?(@.n)]['name']}
{.spec.items[?(@.n>1)].tags[*]}
{.spec.items[?(@.n==1)]}
{.spec.items[?(@)].name}
{.spec.items[?()].name}
{.spec.items[?(@.n==)].name}
{.spec.items[?(==2)].name}
{.spec.items[?(!@.n)].name}
{.spec.items[?(@.name=~"b")].name}
{.spec.items[?(@.n==1 && @.name=="a")].name}
{.spec.items[?(@.n==1 || @.n==2)].name}
{.spec.items[?(@.name=="a" && @.n==1)].name}
{.spec.items[?((@.n==1))].name}
{.spec.items[?(@.n==1)}
{.spec.items[?(@.n==1]}
{.spec.items[?(@.n==1) ].name}
{.spec.items[ ?(@.n==1)].name}
{.spec.items[?(@.n==1)][0]}
{.spec.items[?@.n==1].name}
{.spec.items[?(@.name=="a"]}
{.spec.items[?(@.name=="a)].name}
{.spec.items[?(@.name=="a')].name}
{.spec.items[?(@.name==")")].name}
{.spec.items[?(@.name=="]")].name}
{.spec.items[?(@.name=="}")].name}
{.spec.items[?(@.name=="\"")].name}
{.spec.items[?(@.name=='it\'s')].name}
{.spec.items[?(@.name=='a"b')].name}
{.spec.items[?(@.name=="a=b")].name}
{.spec.items[?(@.name=="a<b")].name}
{.spec.items[?(@.name=="\u0061")].n}
{.spec.items[?(@.name=="\x61")].n}
{.spec.items[?(@.n > 1)]['name','n']}
{.spec.items[?(@.load*2==1)].name}
{.spec.numbers[?(@>3)]}
{.spec.numbers[?(@ > 3)]}
{.spec.numbers[?(@ == 3)]}
{.spec.numbers[?(@.x)]}
{.spec.numbers[?(3>@)]}
{.spec.numbers[?(@)]}
{.spec.floats[?(@>1.0)]}
{.spec.floats[?(@>1)]}
{.spec.words[?(@>"x")]}
{.spec.words[?(@!="x")]}
{.spec.flags[?(@==true)]}
{.spec.flags[?(@<true)]}
{.spec.mixed[?(@==1)]}
{.spec.mixed[?(@=="a")]}
{.spec.mixed[?(@.k)]}
{.spec.mixed[?(@.k=="v")]}
{.spec.nulls[?(@)]}
{.spec.nulls[?(@==1)]}
{.spec.nulls[?(@.x==1)]}
{.spec.nested[?(@[0]==3)]}
{.spec.nested[?(@[0]>1)][1]}
{.spec.nested[*][?(@>1)]}
{.spec.nested[?(@[5])]}
{.spec.empty.list[?(@.x==1)]}
{.spec.empty.map[?(@.x)]}
{.spec[?(@.name)]}
{.spec.name[?(@)]}
{.spec.nothing[?(@)]}
{.spec.absent[?(@.x)]}
{.spec.name.*[?(@>1)]}
{.spec.groups[?(@.members[0].id=="m1")].id}
{.spec.groups[?(@.members[*].id=="m3")].id}
{.spec.groups[?(@..id=="g2")].members}
{.spec.groups[?(@.members[?(@.id=="m3")])].id}
{.spec.groups[?(@.id=="g1")].members[?(@.id=="m2")].id}
{.spec.groups[*].members[?(@.id!="m2")].id}
{.status.conditions[?(@.type=="Ready")].status}
{.status.conditions[?(@.type=="Broken")].reason}
"""
TEMPLATES = r"""
plain text
plain } text
{"quoted"}
{'quoted'}
{"a\nb"}
{'a\tb'}
{"\\"}
{'it\'s'}
{"it's"}
{'say "x"'}
{"say \"x\""}
{"\""}
{"\u00e9\x41\101"}
{"\U0001F600"}
{"\ud800"}
{"\q"}
{"\'"}
{"unclosed}
{'a"}
{""}
{"{"}{"}"}
{"}"}
{}
{ }
{@.metadata.name}{$.kind}
{1}
{+1}
{-1}
{1.5}
{1.50}
{100000000}
{1000000.5}
{01}
{1.2.3}
{+}
{true}
{false}
{.spec.name 1}
{.spec.items[*].n 7}
{.spec.absent 7}
{.spec.items[*].n true}
{.spec.name "after"}
{"before" .spec.name}
{true.spec.name}
name: {.spec.name}
name: {.spec.name}, three: {.spec.three}
{.spec.name}{.spec.three}
{.spec.name} {.spec.three}
{.spec.name}{"\t"}{.spec.three}{"\n"}
{.spec.absent}|{.spec.name}
{.spec.numbers[*]}|{.spec.words[*]}
[{.spec.name}]
{.spec.name
{
}
{{.spec.name}}
{.spec.name}}
{.spec.name|.spec.three}
{.spec.name,.spec.three}
{.spec.name;}
{#}
{*}
{.*[0]}
{?}
{(.spec.name)}
{.spec.name()}
{.spec.name-.spec.three}
{.items[*]}
{range .spec.items[*]}{.name}{end}
{range .spec.items[*]}{.name}{"\n"}{end}
{range .spec.items[*]}{.name} {.n}, {end}
{range .spec.items[*]}[{.name}, {.absent}]{end}!
{range .spec.items[*]}x{end}
{range .spec.items[*]}{@.name}{end}
{range .spec.items[*]}{$.name}{end}
{range .spec.items[*]}{@}{end}
{range .spec.items[*]}{}{end}
{range .spec.items[*]}{.tags[*]};{end}
{range .spec.items[?(@.n>1)]}{.name} {end}
{range .spec.items[0:2]}{.name} {end}
{range .spec.numbers[*]}{@},{end}
{range .spec.words[*]}{@}{" "}{end}
{range .spec.mixed[*]}{@};{end}
{range .spec.nulls[*]}{@};{end}
{range .spec.nulls[*]}{.x};{end}
{range .spec.nulls[*]}{.*};{end}
{range .spec.nulls[*]}{"t"}{1};{end}
{range .spec.nested[*]}{[0]};{end}
{range .spec.nested[*]}{@[1]};{end}
{range .spec.nested[*]}{range @[*]}{@}{end};{end}
{range .spec.empty.list[*]}{.x}never{end}after
{range .spec.empty.list[*]}{.x}{end}{.spec.name}
{range .spec.absent[*]}{.x}{end}after
{range .spec.absent}{.x}{end}after
{range .spec.name}{@}{end}
{range .spec.single}{.only.deep.value}{end}
{range .spec}{.name}{end}
{range .spec.groups[*]}{.id}:{range .members[*]} {.id}{end};{end}
{range .spec.groups[*]}{range .members[*]}{.id} {end}{end}
{range .spec.groups[*]}{range .members[*]}{.id} {end}{.id}{"\n"}{end}done
{range .spec.groups[*]}{.id}{range .tags[*]}{@}{end},{end}
{range .spec.items[*]}{range .tags[*]}{@}{end}{end}
{range .spec.items[*]}{.name}{end}{range .spec.numbers[*]}{@}{end}
{range .spec.items[*]}{.name}
{range .spec.items[*]}{.name}{.spec.name}
{range .spec.groups[*]}{range .members[*]}{.id}{end}
{range .spec.groups[*]}{range .members[*]}{.id}
{range .spec.items[*]}{.name}{end}{end}
{end}
{.spec.name}{end}
{range}{.spec.name}{end}
{range .spec.items[*]}{end}
{range.spec.items[*]}{.name}{end}
{range  .spec.items[*]}{.name}{end}
{range .spec.items[*] }{.name}{ end }
{range .spec.items[9]}{.name}{end}
{range .spec.items[*]}{.tags[0]}{end}
{range .spec.items[*].tags}{@[0]}{end}
{range .spec['name','three']}{@};{end}
{range .spec.items[*]['name','n']}{@};{end}
{range ..members[*]}{.id} {end}
{.spec.items[*].name range}{@}-{end}
"""
# What stands in more than one line, or of another object.
MORE = [
    ("rich/r", "{.spec.name}\n{.spec.three}\n"),
    ("rich/r", "{.spec\n.name}"),
    ("rich/r", "{.spec.name\n}"),
    ("rich/r", "{.spec\t.name}"),
    ("rich/r", "{.spec.numbers[\n0]}"),
    ("rich/r", '{"a\nb"}'),
    ("rich/r", "{range .spec.items[*]}\n  {.name}\n{end}"),
    ("rich/r", "{.spec.items[?(@.n\n==1)]}"),
    ("pod/p", "{.spec.containers[*].image}"),
    ("pod/p", "{.spec.containers[?(@.name=='b')].image}"),
    ("pod/p", "{.spec['containers','initContainers'][*].name}"),
    ("pod/p", "{.status.phase}"),
    ("pod/p", "{.status.conditions[?(@.type=='Ready')].reason}"),
    ("pod/p", "{range .spec.containers[*]}{.name}={.image};{end}"),
    ("pod/p", r"{.metadata.annotations.example\.com/note}"),
    ("pod/p", r"{.metadata.annotations['example\.com/note']}"),
    ("pod/p", "{.metadata.annotations['example.com/note']}"),
    ("pod/p", "{.spec.containers[0].ports[0].containerPort}"),
    ("pod/p", "{.spec.containers[*].ports[?(@.containerPort>80)].name}"),
    ("pod/p", "{.spec.terminationGracePeriodSeconds}"),
    ("node/n", "{.status.capacity.cpu}"),
    ("node/n", "{.status.capacity}"),
    ("node/n", r"{.status.capacity.example\.com/gpu}"),
    ("node/n", "{.spec.taints[*].key}"),
    ("node/n", "{.status.addresses[?(@.type=='InternalIP')].address}"),
    ("node/n", "{range .status.conditions[*]}{.type}={.status}{'\\n'}{end}"),
    ("node/n", "{.spec.unschedulable}"),
    ("deployment/d", "{.spec.replicas}"),
    ("deployment/d", "{.spec.template.spec.containers[0].image}"),
    ("deployment/d", "{.spec.selector.matchLabels.app}"),
    ("deployment/d", "{.spec.selector.matchLabels}"),
    ("deployment/d", "{.spec.strategy.rollingUpdate.maxSurge}"),
    ("deployment/d", "{.status.conditions[?(@.type=='Available')].status}"),
    ("deployment/d", "{.status.conditions[?(@.status!='True')].type}"),
    ("deployment/d", "{.metadata.generation}/{.status.observedGeneration}"),
    ("deployment/d", "{..containers[*].name}"),
]
# kubectl takes the values of a map in random order; compared are the sorted words.
UNORDERED = r"""
{.spec.keys.*}
{.spec.empty.*}
{.spec.items[0].*}
{.spec.keys..}
{..id}
{..name}
{range .spec.items[1].*}{@} {end}
"""
# Where we refuse at once what kubectl accepts, and then fails on when it is evaluated:
# operators that there are not, and words without quotes.
STRICTER = r"""
{.spec.items[?(@.n=2)].name}
{.spec.items[?(@.n=>2)].name}
{.spec.items[?(@.n===2)].name}
{.spec.items[?(@.n<>2)].name}
{.spec.empty.list[?(@.x=1)]}
{.spec.items[?(@.name==b)].name}
{.spec.items[?(@.on==True)].name}
{.spec.keys['$a']}
{.spec.keys['with space']}
{.spec. name}
{..  value}
{.spec.name nonsense}
{.spec.numbers[0]x}
{Range .spec.items[*]}{.name}{End}
{nonsense}
{range .spec.items[*]}{.name}{END}
{.spec.numbers[::0]}
{.spec.numbers[::-1]}
{.spec.numbers[1:1:0]}
"""

# One object after the other, and what is waited for.
WAITS = r"""
rich/r condition=Ready
rich/r condition=ready
rich/r condition=READY=TRUE
rich/r condition=Ready=true
rich/r condition=Ready=False
rich/r condition=Ready=Unknown
rich/r condition=Broken
rich/r condition=Broken=False
rich/r condition=broken=fALSE
rich/r condition=Behind
rich/r condition=Behind=False
rich/r condition=Ahead
rich/r condition=Odd
rich/r condition=Odd=maybe
rich/r condition=Twice
rich/r condition=Twice=False
rich/r condition=TextGeneration
rich/r condition=NoStatus
rich/r condition=Bool
rich/r condition=Later
rich/r condition=Straße
rich/r condition=STRAẞE
rich/r condition=STRASSE
rich/r condition=example.com/Ready
rich/r condition=With Space
rich/r condition=5
rich/r condition=Absent
rich/r condition=Read
rich/r condition
rich/r Condition=Ready
rich/r conditions=Ready
rich/r Ready
rich/r phase=Running
rich/r create
rich/r Create
rich/r CREATE
rich/r delete
rich/r DELETE
rich/r deleted
rich/r create=
rich/r jsonpath
rich/r jsonpath=
rich/r jsonpath={}
rich/r jsonpath={.status.phase}
rich/r jsonpath={.status.phase}=Running
rich/r jsonpath={.status.phase}=running
rich/r jsonpath={.status.phase}=Run
rich/r jsonpath={.status.phase}="Running"
rich/r jsonpath={.status.phase}='Running'
rich/r jsonpath={.status.phase}="'Running'"
rich/r jsonpath={.status.phase}=
rich/r jsonpath={.status.phase}=""
rich/r jsonpath={.status.phase}==Running
rich/r jsonpath={.status.phase}===Running
rich/r jsonpath={.status.phase}= Running
rich/r jsonpath={.status.phase}!=Running
rich/r jsonpath={.status.phase}Running
rich/r jsonpath={.status.phase} =Running
rich/r jsonpath= {.status.phase}=Running
rich/r jsonpath='{.status.phase}'=Running
rich/r jsonpath=.status.phase=Running
rich/r jsonpath=status.phase=Running
rich/r jsonpath=status.phase
rich/r jsonpath={status.phase}=Running
rich/r jsonpath={status.phase=Running
rich/r jsonpath=status.phase}=Running
rich/r jsonpath={.status.phase
rich/r jsonpath={.status.blank}=padded
rich/r jsonpath={.status.count}=3
rich/r jsonpath={.status.count}="3"
rich/r jsonpath={.status.count}=3.0
rich/r jsonpath={.status.count}=03
rich/r jsonpath={.status.load}=0.5
rich/r jsonpath={.status.load}=.5
rich/r jsonpath={.status.huge}=1e+22
rich/r jsonpath={.status.huge}=1e22
rich/r jsonpath={.status.million}=1.2345675e+06
rich/r jsonpath={.status.million}=1234567.5
rich/r jsonpath={.status.on}=true
rich/r jsonpath={.status.on}=True
rich/r jsonpath={.status.nothing}
rich/r jsonpath={.status.nothing}=null
rich/r jsonpath={.status.nothing}=<nil>
rich/r jsonpath={.status.nothing.further}
rich/r jsonpath={.status.nil}=<nil>
rich/r jsonpath={.status.text}
rich/r jsonpath={.status.absent}
rich/r jsonpath={.status.absent}=x
rich/r jsonpath={.status.absent.further[0]}=x
rich/r jsonpath={.status.assigned}=a=b
rich/r jsonpath={.status.double}=b==
rich/r jsonpath={.status.list}
rich/r jsonpath={.status.list}=x
rich/r jsonpath={.status.list}=["x"]
rich/r jsonpath={.status.list[0]}=x
rich/r jsonpath={.status.list[*]}=x
rich/r jsonpath={.status.list[1]}
rich/r jsonpath={.status.two[0]}=x
rich/r jsonpath={.status.two[-1]}=y
rich/r jsonpath={.status.two[*]}
rich/r jsonpath={.status.two[*]}=x
rich/r jsonpath={.status.two[*]}=x y
rich/r jsonpath={.status.two[0,1]}
rich/r jsonpath={.status.two[1:]}=y
rich/r jsonpath={.status.two[?(@=="y")]}=y
rich/r jsonpath={.status.empty}
rich/r jsonpath={.status.empty[*]}
rich/r jsonpath={.status.empty[0]}
rich/r jsonpath={.status.map}
rich/r jsonpath={.status.map}=v
rich/r jsonpath={.status.map.*}=v
rich/r jsonpath={.status.map[0]}
rich/r jsonpath={.status['phase']}=Running
rich/r jsonpath={.status['phase','count']}=Running
rich/r jsonpath={.status.conditions}
rich/r jsonpath={.status.conditions[?(@.type=="Ready")].status}=True
rich/r jsonpath={.status.conditions[?(@.type=="Ready")].status}
rich/r jsonpath={.status.checks[?(@.type=="Ready")].status}=True
rich/r jsonpath={.status.checks[?(@.type=='Ready')].reason}='Up'
rich/r jsonpath={.status.checks[?(@.n==2)].type}=Broken
rich/r jsonpath={.status.checks[?(@.n>1)].type}=Broken
rich/r jsonpath={.status.checks[?(@.status=="True")].type}
rich/r jsonpath={.status.checks[?(@.n)].type}
rich/r jsonpath=.status.checks[?(@.type=="Ready")].status=True
rich/r jsonpath={.status.checks[?(@.n>1.5)].type}
rich/r jsonpath={.status.checks[0:2][?(@.n==1)].type}
rich/r jsonpath={.status.conditions[*].type}=Ready
rich/r jsonpath={.spec..deep.value}=42
rich/r jsonpath={..value}=42
rich/r jsonpath={.spec.keys.a\.b/c}=dotted
rich/r jsonpath={.spec.keys['a\.b/c']}=dotted
rich/r jsonpath={.spec.keys['a.b/c']}=dotted
rich/r jsonpath={.spec.text.unicode}=héllo wörld ☃ 😀
rich/r jsonpath={.spec.items[*]}{.name}
rich/r jsonpath={.kind}{.apiVersion}
rich/r jsonpath={.kind} {.apiVersion}
rich/r jsonpath=the {.kind}
rich/r jsonpath={range .spec.items[*]}{.name}{end}
rich/r jsonpath={.status.phase[}
rich/r jsonpath={.status.phase#}
rich/r jsonpath={.status .phase}=Running
rich/r jsonpath={nonsense}
rich/r jsonpath={1}
rich/r jsonpath={true}
rich/r jsonpath={"text"}=text
rich/r jsonpath={.kind}=Rich
rich/r jsonpath={}=Rich
rich/r jsonpath={.metadata.labels.only}=label
rich/bare condition=Ready
rich/bare condition=Ready=False
rich/bare jsonpath={.status}
rich/bare jsonpath={.status.phase}=Running
rich/bare create
rich/bare delete
pod/p condition=Ready
pod/p condition=Ready=false
pod/p condition=PodScheduled
pod/p jsonpath={.status.phase}=Pending
pod/p jsonpath={.spec.containers[0].image}=one
pod/p jsonpath={.spec.containers[*].image}=one
pod/p jsonpath={.status.podIP}
pod/p jsonpath={.spec.terminationGracePeriodSeconds}=30
pod/p create
pod/p delete
node/n condition=Ready
node/n condition=MemoryPressure
node/n condition=MemoryPressure=False
node/n condition=DiskPressure=Unknown
node/n condition=DiskPressure=False
node/n jsonpath={.status.capacity.cpu}=4
node/n jsonpath={.status.capacity.example\.com/gpu}=2
node/n jsonpath={.spec.unschedulable}
node/n jsonpath={.spec.taints[0].value}=yes
node/n delete
deployment/d condition=Available
deployment/d condition=Available=True
deployment/d condition=Progressing=False
deployment/d condition=available=false
deployment/d jsonpath={.spec.replicas}=5
deployment/d jsonpath={.status.replicas}=3
deployment/d jsonpath={.status.readyReplicas}=3
deployment/d jsonpath={.status.observedGeneration}=1
deployment/d create
deployment/d delete
pod/missing condition=Ready
pod/missing condition=Ready=False
pod/missing jsonpath={.status.phase}
pod/missing jsonpath={.metadata}
pod/missing create
pod/missing delete
pod/missing Delete
"""
# Where we deliberately say something else: kubectl's answer, ours, and why.
DIFFERENT = [
    # kubectl puts a dot in front, so that it looks for a field without a name.
    ("jsonpath={$.status.phase}=Running", "does not hold", "holds"),
    ("jsonpath={@.status.phase}=Running", "does not hold", "holds"),
    ("jsonpath={['status']['phase']}=Running", "does not hold", "holds"),
    ("jsonpath={.['status']['phase']}=Running", "does not hold", "holds"),
    ("jsonpath={ .status.phase }=Running", "does not hold", "holds"),
    ("jsonpath={$}", "does not hold", "holds"),
    # kubectl splits at the = of an operator too.
    ('jsonpath={.status.two[?(@!="y")]}=x', "refuses it", "holds"),
    ("jsonpath={.status.checks[?(@.n<=1)].type}=Ready", "refuses it", "holds"),
    ("jsonpath={.status.checks[?(@.n>=2)].type}", "refuses it", "holds"),
    # These could never hold, or only for an empty status, which is a slip of the pen.
    ("condition=", "does not hold", "refuses it"),
    ("condition=Ready=", "does not hold", "refuses it"),
    ("condition=NoStatus=", "does not hold", "refuses it"),
    ("condition=Ready=True=x", "does not hold", "refuses it"),
    # White space around the text is nobody's intention.
    (" create ", "refuses it", "holds"),
    ("condition=Ready ", "does not hold", "holds"),
    ("jsonpath={.status.text}= ", "holds", "refuses it"),
    # Words and steps that can never be evaluated.
    ("jsonpath={.status.empty[::0]}", "does not hold", "refuses it"),
    ("jsonpath={.status phase}=Running", "does not hold", "refuses it"),
    ("jsonpath={.status.checks[?(@.type==Ready)].n}", "does not hold", "refuses it"),
]


@dataclass(frozen=True)
class Oracle:
    """kubectl, and the objects that it is asked about."""

    kubectl: Path
    kubeconfig: Path
    cache: Path
    namespace: str
    objects: dict[str, dict[str, Any] | None]

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                self.kubectl,
                f"--kubeconfig={self.kubeconfig}",
                f"--cache-dir={self.cache}",
                f"--namespace={self.namespace}",
                *args,
            ],
            capture_output=True,
            check=False,
            text=True,
            timeout=30,
        )

    def printed(self, ref: str, template: str) -> str:
        """Return what kubectl prints, or how it fails."""
        done = self.run("get", ref, f"--output=jsonpath={template}")
        if done.returncode == 0:
            return f"prints {done.stdout!r}"
        refused = "error parsing jsonpath" in done.stderr
        return "refuses it" if refused else "fails"

    def waited(self, ref: str, text: str) -> str:
        """Return whether kubectl finds the condition met."""
        if self.run("wait", ref, f"--for={text}", "--timeout=0").returncode == 0:
            return "holds"
        # What it does not understand, it refuses before it looks for the object.
        absent = self.run("wait", "node/nowhere", f"--for={text}", "--timeout=0")
        known = absent.returncode == 0 or "not found" in absent.stderr
        # It looks for what shall be created at once, and reports no more than the end
        # of its time.
        known |= "timed out" in absent.stderr
        return "does not hold" if known else "refuses it"

    def disagreements(
        self,
        cases: list[tuple[str, str]],
        theirs: Callable[[str, str], str],
        ours: Callable[[Any, str], str],
    ) -> str:
        """Return the cases in which kubectl and we say something else."""
        with ThreadPoolExecutor(3) as pool:
            answers = pool.map(lambda case: theirs(*case), cases)
            pairs = zip(cases, answers, strict=True)
            return "\n".join(
                f"{ref} {text!r}: kubectl {answer}, we {own}"
                for (ref, text), answer in pairs
                if (own := ours(self.objects[ref], text)) != answer
            )


def rendered(obj: Any, template: str) -> str:
    try:
        return f"prints {Template(template).render(obj)!r}"
    except ValueError:
        return "refuses it"
    except EvaluationError:
        return "fails"


def judged(obj: Any, text: str) -> str:
    try:
        return "holds" if parse(text)(obj) else "does not hold"
    except ValueError:
        return "refuses it"


def lines(*tables: str) -> list[str]:
    return [line for table in tables for line in table.splitlines() if line]


@pytest.fixture(scope="module")
def oracle(
    envtest_cluster: Cluster, kubectl: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Oracle]:
    kube = Kube(envtest_cluster, "kubectl-agrees", timeout=20)
    envtest_cluster.create_namespace(kube.namespace)
    kube.apply(CRD)
    kube.create(RICH)
    kube.patch("rich/r", {"spec": {"changed": True}})
    kube.patch("rich/r", {"status": RICH_STATUS}, subresource="status")
    for obj in (POD, NODE, DEPLOYMENT):
        kube.create({key: value for key, value in obj.items() if key != "status"})
        ref = f"{obj['kind']}/{obj['metadata']['name']}"
        kube.patch(ref, {"status": obj["status"]}, subresource="status")
    kube.patch("deployment/d", {"spec": {"replicas": 5}})
    kube.create({**RICH, "metadata": {"name": "bare"}})
    cache = tmp_path_factory.mktemp("kubectl")
    refs = ["rich/r", "rich/bare", "pod/p", "node/n", "deployment/d"]
    objects: dict[str, Any] = {ref: dict(kube.get(ref)) for ref in refs}
    objects["pod/missing"] = None
    kubeconfig = envtest_cluster.kubeconfig
    yield Oracle(kubectl, kubeconfig, cache, kube.namespace, objects)
    kube.leftovers.clean_up()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("table", [PATHS, LISTS, FILTERS, TEMPLATES])
def test_templates_print_what_kubectl_get_prints(oracle: Oracle, table: str) -> None:
    """What kubectl prints, refuses and fails on, so do we."""
    cases = [("rich/r", line) for line in lines(table)]

    assert oracle.disagreements(cases, oracle.printed, rendered) == ""


@pytest.mark.timeout(60)
def test_templates_print_what_kubectl_prints_of_built_in_kinds(oracle: Oracle) -> None:
    """Objects of built-in kinds, and templates of several lines, are no exception."""
    assert oracle.disagreements(MORE, oracle.printed, rendered) == ""


@pytest.mark.timeout(60)
def test_maps_are_printed_in_their_own_order(oracle: Oracle) -> None:
    """kubectl shuffles the values of a map; the words are the same."""

    def theirs(ref: str, template: str) -> str:
        return " ".join(
            sorted(oracle.run("get", ref, f"-ojsonpath={template}").stdout.split())
        )

    def ours(obj: Any, template: str) -> str:
        return " ".join(sorted(Template(template).render(obj).split()))

    cases = [("rich/r", line) for line in lines(UNORDERED)]

    assert oracle.disagreements(cases, theirs, ours) == ""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("template", lines(STRICTER))
def test_templates_that_can_never_be_evaluated_are_refused_at_once(
    oracle: Oracle, template: str
) -> None:
    """kubectl fails on them when an item gets there; we say so when they are written."""
    assert oracle.printed("rich/r", template) in {"fails", "prints ''"}
    assert rendered(oracle.objects["rich/r"], template) == "refuses it"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", [0, 1])
def test_conditions_hold_when_kubectl_wait_finds_them_met(
    oracle: Oracle, part: int
) -> None:
    """What is met for kubectl holds, and what it does not understand is refused."""
    pairs = [line.split(" ", 1) for line in lines(WAITS)]
    cases = [(ref, text) for ref, text in pairs][part::2]

    assert oracle.disagreements(cases, oracle.waited, judged) == ""


@pytest.mark.timeout(60)
def test_conditions_differ_from_kubectl_only_on_purpose(oracle: Oracle) -> None:
    """Each difference is known, and still there: kubectl may learn."""
    for text, theirs, own in DIFFERENT:
        assert (text, oracle.waited("rich/r", text)) == (text, theirs)
        assert (text, judged(oracle.objects["rich/r"], text)) == (text, own)


def test_readiness_of_every_kind_that_kubectl_lists_is_decided(oracle: Oracle) -> None:
    """A new version of Kubernetes brings new kinds; what ready means is to be told."""
    shown = oracle.run("api-resources", "--no-headers").stdout
    rows = [row.split() for row in shown.splitlines()]
    kinds = {(row[-3].rpartition("/")[0], row[-1]) for row in rows}

    assert kinds - {(GROUP, "Rich")} - set(_RULES) == set()
