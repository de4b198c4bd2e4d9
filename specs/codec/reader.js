// Walks a document of the codec's wire format, version 2, with no more than format.md and a MessagePack library.
//
//     npm install && node reader.js FILE…
//
// prints for each file the number of the root (null where that is a leaf), then a line for each object: its number, its
// kind, its class (null for Python's own), and the numbers of the objects that its cells refer to, in the order of the cells.

import { readFileSync } from "node:fs";
import { decode, ExtensionCodec } from "@msgpack/msgpack";

const VERSION = 2;
const OBJECTS = {
  1: "list", 2: "tuple", 3: "namedtuple", 4: "set", 5: "frozenset", 6: "dict", 7: "dict", 8: "deque", 9: "bytearray",
  10: "slice", 11: "instance", 12: "by a function", 13: "scalar", 16: "shell",
};
const FLAVOURS = ["dict", "OrderedDict", "Counter", "defaultdict"];
const [NAMED, SET, DICT, RECORD, DEQUE, BYTEARRAY, SLICE, INSTANCE, ATTRIBUTES, STATE] = [3, 4, 6, 7, 8, 9, 10, 11, 14, 15];
const PLAIN_VALUES_OF_LEAF = { 3: 2, 12: 2, 13: 3, 14: 2 };
const LEAF_CODES = 26;

class Reference {
  constructor(number) { this.number = number; }
}
const LEAF = Symbol("a leaf that need not be understood to walk the document");

function check(holds, what) {
  if (!holds) throw new Error(`not of the codec's format: ${what}`);
}

// MessagePack: no maps, and of extension types these two only.
const extensionCodec = new ExtensionCodec();
extensionCodec.register({ type: 1, encode: () => null, decode: bigInteger });
extensionCodec.register({ type: 2, encode: () => null, decode: surrogateText });
const unpack = (bytes) => decode(bytes, { extensionCodec, useBigInt64: true, maxMapLength: 0 });

// A tree: maps with str keys, and no extension type. Keys get a letter in front, since JavaScript sorts those that look like
// numbers to the front of an object; its library refuses the key "__proto__".
const MOST_LEVELS = 10;
const MOST_BYTES = 2 ** 24;
const TREE = [0x92, VERSION];
const unpackTree = (bytes) => decode(bytes, { extensionCodec: new ExtensionCodec(), useBigInt64: true, mapKeyConverter: textKey });

// A typed tree: besides those, bins, and maps of one entry whose key is a bin; extensions of leaves, members and references.
const TYPED = [0x93, VERSION];
const MOST_TYPED_BYTES = 2 ** 18;
const MOST_CELLS = 2 ** 11;
const MARKS = ["tuple", "set"];
const [REFERENCE, MEMBER, FIRST_LEAF] = [3, 4, 32];
const LEAVES_OF_TABLES = [1, 14];
const NUMBERED_LEAVES = [2, 3, 7, 12, 13];
const BINARY_LEAVES = [10, 25, 26];
const MARK = "m";

function typedCodec(types) {
  const codec = new ExtensionCodec();
  const refuse = () => { throw new Error("not of the codec's format: a timestamp"); };
  codec.register({ type: -1, encode: () => null, decode: refuse });
  codec.register({ type: REFERENCE, encode: () => null, decode: (bytes) => new Reference(bytes.reduce((sum, byte) => 256 * sum + byte, 0)) });
  codec.register({ type: MEMBER, encode: () => null, decode: (bytes) => {
    const [number] = fixed(plainValues(bytes), 2, "a member");
    whole(number, types.length, "a class");
    return LEAF;
  } });
  for (let code = 1; code <= LEAF_CODES; code++) {
    if (!LEAVES_OF_TABLES.includes(code)) {
      codec.register({ type: FIRST_LEAF + code, encode: () => null, decode: (bytes) => leaf(code, bytes) });
    }
  }
  return codec;
}

function leaf(code, bytes) {
  if (NUMBERED_LEAVES.includes(code)) fixed(plainValues(bytes), PLAIN_VALUES_OF_LEAF[code] ?? 1, "a leaf");
  else if (!BINARY_LEAVES.includes(code)) new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  return LEAF;
}

const typedKey = (key) => (key instanceof Uint8Array ? `${MARK}${mark(key)}` : textKey(key));

function mark(key) {
  check(key.length === 1, "a mark is one byte");
  return key[0];
}

function textKey(key) {
  check(typeof key === "string", "the keys of a tree are texts");
  return `k${key}`;
}

function bigInteger(bytes) {
  const unsigned = bytes.reduce((sum, byte) => sum * 256n + BigInt(byte), 0n);
  return BigInt.asIntN(8 * bytes.length, unsigned);
}

function surrogateText(bytes) {
  // UTF-8 in which a surrogate takes three bytes like any other: TextDecoder would refuse it.
  let text = "";
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at++];
    const more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
    let point = more ? first & (0x3f >> more) : first;
    for (let left = more; left > 0; left--) point = (point << 6) | (bytes[at++] & 0x3f);
    text += String.fromCodePoint(point);
  }
  return text;
}

const isPlain = (value) => value === null || value instanceof Uint8Array ||
  ["boolean", "number", "bigint", "string"].includes(typeof value);

function fixed(value, length, what) {
  check(Array.isArray(value) && value.length === length, `${what} has ${length} parts`);
  return value;
}

function whole(value, below, what) {
  check(Number.isSafeInteger(value) && value >= 0 && value < below, `${what} is a whole number below ${below}`);
  return value;
}

function binary(value, what) {
  check(value instanceof Uint8Array, `${what} is a bin`);
  return value;
}

function u32(value, what) {
  const bytes = binary(value, what);
  check(bytes.length % 4 === 0, `${what} are u32[]`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Array.from({ length: bytes.length / 4 }, (_, index) => view.getUint32(4 * index, true));
}

// An array of plain values within a bin.
function plainValues(bytes) {
  const cells = unpack(binary(bytes, "cells"));
  check(Array.isArray(cells) && cells.every(isPlain), "cells are plain values");
  return cells;
}

// Each class as its name and its fields.
function classes(cells) {
  const found = [];
  for (let at = 0; at < cells.length; at += 3 + cells[at + 2]) {
    const [name, version, count] = cells.slice(at, at + 3);
    const fields = cells.slice(at + 3, at + 3 + whole(count, cells.length, "the number of fields"));
    check(typeof name === "string" && version >= 1 && fields.length === count && areTexts(fields), "a class");
    found.push([name, fields]);
  }
  return found;
}

const areTexts = (names) => names.every((name) => typeof name === "string") && new Set(names).size === names.length;
const sum = (lengths) => lengths.reduce((total, length) => total + length, 0);

// Objects are numbered breadth first, as they are in a table.
class Tree {
  constructor(bytes) {
    check(bytes.length <= MOST_BYTES, "a tree is not longer than it may be");
    this.objects = new Map();
    let level = [];
    this.root = this.cell(unpackTree(bytes.subarray(TREE.length)), level);
    for (let levels = 1; level.length; levels++) {
      check(levels <= MOST_LEVELS, `a tree has at most ${MOST_LEVELS} levels`);
      const next = [];
      for (const [number, value] of level) {
        this.objects.get(number).cells = Object.values(value).map((cell) => this.cell(cell, next));
      }
      level = next;
    }
    this.count = this.objects.size;
  }

  cell(value, level) {
    if (isPlain(value)) {
      check(!(value instanceof Uint8Array), "a tree holds no bin");
      return value;
    }
    check(Array.isArray(value) || Object.getPrototypeOf(value) === Object.prototype, "a tree holds no extension type");
    const number = this.objects.size;
    this.objects.set(number, { kind: Array.isArray(value) ? "list" : "dict", type: null, cells: [] });
    level.push([number, value]);
    return new Reference(number);
  }
}

// Objects are numbered as they end.
class Typed {
  constructor(bytes) {
    check(bytes.length <= MOST_TYPED_BYTES, "a typed tree is not longer than it may be");
    const width = { 0xc4: 1, 0xc5: 2, 0xc6: 4 }[bytes[TYPED.length]];
    check(width, "a typed tree begins with its classes");
    const start = TYPED.length + 1 + width;
    const end = start + bytes.subarray(TYPED.length + 1, start).reduce((sum, byte) => 256 * sum + byte, 0);
    check(end <= bytes.length, "the classes end within the document");
    this.types = classes(plainValues(bytes.subarray(start, end)));
    this.objects = new Map();
    const options = {
      extensionCodec: typedCodec(this.types), useBigInt64: true, mapKeyConverter: typedKey, maxArrayLength: MOST_CELLS, maxMapLength: MOST_CELLS,
    };
    this.root = this.cell(decode(bytes.subarray(end), options));
    this.count = this.objects.size;
  }

  cell(value) {
    if (isPlain(value) || value === LEAF) return value;
    if (value instanceof Reference) {
      check(this.objects.has(value.number), "a reference is to an object that has ended");
      return value;
    }
    if (Array.isArray(value)) return this.ended("list", null, value.map((cell) => this.cell(cell)));
    check(Object.getPrototypeOf(value) === Object.prototype, "a typed tree holds no other extension type");
    const keys = Object.keys(value);
    if (keys.length !== 1 || !keys[0].startsWith(MARK)) {
      check(keys.every((key) => !key.startsWith(MARK)), "a dict has no mark");
      return this.ended("dict", null, Object.values(value).map((cell) => this.cell(cell)));
    }
    return this.marked(Number(keys[0].slice(MARK.length)), value[keys[0]]);
  }

  marked(number, cells) {
    check(Array.isArray(cells), "the cells of an object are an array");
    const found = cells.map((cell) => this.cell(cell));
    if (number < MARKS.length) {
      check(number === 0 || areTexts(found), "a set holds different texts");
      return this.ended(MARKS[number], null, found);
    }
    check(number - MARKS.length < this.types.length, "a class");
    const [type, fields] = this.types[number - MARKS.length];
    check(found.length === fields.length, "an object has the fields of its class");
    return this.ended("instance", type, found);
  }

  ended(kind, type, cells) {
    const number = this.objects.size;
    this.objects.set(number, { kind, type, cells });
    return new Reference(number);
  }
}

class Document {
  constructor(bytes) {
    const parts = unpack(bytes);
    check(Array.isArray(parts) && parts[0] === VERSION, `version ${VERSION}`);
    const [, types, count, blocks, rows, early, late, root] = fixed(parts, 8, "a document");
    this.types = classes(plainValues(types));
    this.count = whole(count, 2 * bytes.length, "the number of objects");
    this.objects = new Map();
    const fills = [];
    blocks.forEach((block) => this.block(block));
    this.section(rows, [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 16], [ATTRIBUTES], fills);
    this.section(early, [2, 3, 5, 10], [], fills);
    this.section(late, [2, 3, 4, 5, 6, 10, 12, 15], [SET, DICT, STATE], fills);
    check(this.objects.size === this.count, "every number is made once");
    for (const [number, cells] of fills) {
      const filled = this.objects.get(number);
      filled.cells = filled.cells.concat(cells);
    }
    [this.root] = this.column(root, 1);
  }

  make(number, kind, type, cells) {
    check(number < this.count && !this.objects.has(number), `object ${number} is made once`);
    this.objects.set(number, { kind, type, cells });
  }

  type(number) {
    return this.types[whole(number, this.types.length, "a class")];
  }

  block([kind, runs, ...parts]) {
    const numbers = [];
    const bounds = u32(runs, "runs");
    check(bounds.length % 2 === 0, "runs are a number and a length each");
    for (let at = 0; at < bounds.length; at += 2) {
      check(bounds[at] + bounds[at + 1] <= this.count, "runs are of numbers below the count");
      for (let number = bounds[at]; number < bounds[at] + bounds[at + 1]; number++) numbers.push(number);
    }
    const [name, type, rows] = this.contents(kind, parts, numbers.length);
    numbers.forEach((number, index) => this.make(number, name, type, rows[index]));
  }

  contents(kind, parts, count) {
    const name = OBJECTS[kind];
    switch (kind) {
      case DICT: {
        const [flavour, factory, lengths, keys, values] = fixed(parts, 5, "a block of dicts");
        const [mine, theirs] = [this.rows(lengths, keys, count), this.rows(lengths, values, count)];
        // Nothing, a builtin class, or a class of the table and what goes by this name in it.
        const [named, ...members] = plainValues(factory);
        const isWord = named === null || (flavour === 3 && typeof named === "string");
        const isMember = () => flavour === 3 && members.length === 1 && this.type(named);
        check(isWord ? members.length === 0 : isMember(), "a factory");
        return [FLAVOURS[whole(flavour, 4, "a flavour")], null, mine.map((row, at) => row.flatMap((key, i) => [key, theirs[at][i]]))];
      }
      case RECORD: {
        const keys = plainValues(parts[0]);
        check(areTexts(keys), "keys");
        return [name, null, this.across(fixed(parts, 1 + keys.length, "a block of records").slice(1), count)];
      }
      case DEQUE: {
        const [lengths, limits, cells] = fixed(parts, 3, "a block of deques");
        check(this.column(limits, count).every((most) => most === null || Number.isSafeInteger(most)), "maxlens");
        return [name, null, this.rows(lengths, cells, count)];
      }
      case BYTEARRAY:
        this.column(fixed(parts, 1, "a block of bytearrays")[0], count).forEach((cell) => binary(cell, "a bytearray"));
        return [name, null, Array.from({ length: count }, () => [])];
      case SLICE:
        return [name, null, this.even(fixed(parts, 1, "a block of slices")[0], 3, count)];
      case NAMED: {
        const [number, cells] = fixed(parts, 2, "a block of namedtuples");
        const [type, fields] = this.type(number);
        return [name, type, this.even(cells, fields.length, count)];
      }
      case INSTANCE: {
        const [type, fields] = this.type(parts[0]);
        return [name, type, this.across(fixed(parts, 1 + Math.max(fields.length, 1), "a block of instances").slice(1), count)];
      }
      default: {
        check(kind >= 1 && kind <= 5, "a kind of block");
        const [lengths, cells] = fixed(parts, 2, "a block");
        return [name, null, this.rows(lengths, cells, count)];
      }
    }
  }

  // Cells of one object after the other, of these lengths.
  rows(lengths, cells, count) {
    const sizes = u32(lengths, "lengths");
    check(sizes.length === count, "a length for each object");
    return this.split(cells, sizes);
  }

  split(cells, sizes) {
    const all = this.column(cells, sum(sizes));
    let at = 0;
    return sizes.map((size) => all.slice(at, (at += size)));
  }

  even(cells, width, count) {
    const all = this.column(cells, width * count);
    return Array.from({ length: count }, (_, index) => all.slice(width * index, width * (index + 1)));
  }

  // One column for each key or field.
  across(columns, count) {
    const all = columns.map((column) => this.column(column, count));
    return Array.from({ length: count }, (_, index) => all.map((cells) => cells[index]));
  }

  section(parts, allowed, filling, fills) {
    const [table, cells] = fixed(parts, 2, "a section");
    const flat = u32(table, "rows");
    check(flat.length % 4 === 0, "rows have four numbers each");
    const rows = Array.from({ length: flat.length / 4 }, (_, index) => flat.slice(4 * index, 4 * index + 4));
    const own = this.split(cells, rows.map(([, , , length]) => length));
    rows.forEach(([kind, number, type], index) => {
      check(allowed.includes(kind), `no row of kind ${kind} here`);
      check(number < this.count, "a row of an object");
      if (filling.includes(kind)) fills.push([number, own[index]]);
      else this.make(number, OBJECTS[kind], type ? this.type(type - 1)[0] : null, own[index]);
    });
  }

  // The cells of a column: plain values as they are, references, and marks for leaves.
  column(parts, count) {
    check(Array.isArray(parts), "a column");
    const [kind, first, second] = parts;
    switch (kind) {
      case 0: {
        const cells = plainValues(fixed(parts, 2, "a column")[1]);
        check(cells.length === count, `${count} plain values`);
        return cells;
      }
      case 1:
        check(binary(fixed(parts, 2, "a column")[1], "floats").length === 8 * count, `${count} floats`);
        return Array(count).fill(LEAF);
      case 2: {
        const numbers = u32(fixed(parts, 2, "a column")[1], "references");
        check(numbers.length === count && numbers.every((number) => number < this.count), `${count} references`);
        return numbers.map((number) => new Reference(number));
      }
      case 3:
        whole(fixed(parts, 3, "a column")[1], LEAF_CODES + 1, "a leaf's code");
        check(first > 0 && second[0] <= 1, "leaves are made of plain values");
        this.column(second, count * (PLAIN_VALUES_OF_LEAF[first] ?? 1));
        return Array(count).fill(LEAF);
      case 4:
        fixed(parts, 3, "a column");
        check(second[0] === 0 && this.column(second, count).length === u32(first, "classes").length, `${count} members`);
        u32(first, "classes").forEach((number) => this.type(number));
        return Array(count).fill(LEAF);
      case 5: {
        const mask = binary(first, "a mask");
        const columns = parts.slice(2);
        check(mask.length === count && mask.every((place) => place < columns.length), `a mask of ${count} cells`);
        check(columns.every((column) => column[0] !== 5), "no mixture in a mixture");
        const cells = columns.map((column, place) => this.column(column, mask.filter((one) => one === place).length));
        const next = columns.map(() => 0);
        return Array.from(mask, (place) => cells[place][next[place]++]);
      }
      default:
        throw new Error(`not of the codec's format: no column of kind ${kind}`);
    }
  }
}

const numbersIn = (cells) => cells.filter((cell) => cell instanceof Reference).map((cell) => cell.number);

for (const file of process.argv.slice(2)) {
  const bytes = readFileSync(file);
  const begins = (head) => head.every((byte, place) => bytes[place] === byte);
  const walked = begins(TREE) ? new Tree(bytes) : begins(TYPED) ? new Typed(bytes) : new Document(bytes);
  console.log(JSON.stringify(numbersIn([walked.root])[0] ?? null));
  for (let number = 0; number < walked.count; number++) {
    const { kind, type, cells } = walked.objects.get(number);
    console.log(JSON.stringify([number, kind, type, numbersIn(cells)]));
  }
}
