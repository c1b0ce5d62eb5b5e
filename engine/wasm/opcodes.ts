// SPDX-License-Identifier: MIT
// The WebAssembly instructions that the engine uses, with opcode and signature (WebAssembly core specification 2.0, section 5.4).

export type ValType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128';

/** Binary encoding of each value type. */
export const valTypeCode: Record<ValType, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };

const letters: Record<string, ValType> = { i: 'i32', l: 'i64', f: 'f32', d: 'f64', v: 'v128' };

/** One plain instruction: `prefix` 0 means a single-byte opcode. */
export interface OpInfo {
  readonly name: string;
  readonly prefix: number;
  readonly code: number;
  readonly params: readonly ValType[];
  readonly result: ValType;
}

/** "first opcode, signature, names in opcode order"; "-" skips an opcode. Signature: parameters ">" result, i=i32 l=i64 f=f32 d=f64 v=v128. */
const plain: readonly (readonly [number, string, string])[] = [
  [0x45, 'i>i', 'i32.eqz'],
  [0x46, 'ii>i', 'i32.eq i32.ne i32.lt_s i32.lt_u i32.gt_s i32.gt_u i32.le_s i32.le_u i32.ge_s i32.ge_u'],
  [0x50, 'l>i', 'i64.eqz'],
  [0x51, 'll>i', 'i64.eq i64.ne i64.lt_s i64.lt_u i64.gt_s i64.gt_u i64.le_s i64.le_u i64.ge_s i64.ge_u'],
  [0x5b, 'ff>i', 'f32.eq f32.ne f32.lt f32.gt f32.le f32.ge'],
  [0x61, 'dd>i', 'f64.eq f64.ne f64.lt f64.gt f64.le f64.ge'],
  [0x67, 'i>i', 'i32.clz i32.ctz i32.popcnt'],
  [
    0x6a,
    'ii>i',
    'i32.add i32.sub i32.mul i32.div_s i32.div_u i32.rem_s i32.rem_u i32.and i32.or i32.xor i32.shl i32.shr_s i32.shr_u i32.rotl i32.rotr',
  ],
  [0x79, 'l>l', 'i64.clz i64.ctz i64.popcnt'],
  [
    0x7c,
    'll>l',
    'i64.add i64.sub i64.mul i64.div_s i64.div_u i64.rem_s i64.rem_u i64.and i64.or i64.xor i64.shl i64.shr_s i64.shr_u i64.rotl i64.rotr',
  ],
  [0x8b, 'f>f', 'f32.abs f32.neg f32.ceil f32.floor f32.trunc f32.nearest f32.sqrt'],
  [0x92, 'ff>f', 'f32.add f32.sub f32.mul f32.div f32.min f32.max f32.copysign'],
  [0x99, 'd>d', 'f64.abs f64.neg f64.ceil f64.floor f64.trunc f64.nearest f64.sqrt'],
  [0xa0, 'dd>d', 'f64.add f64.sub f64.mul f64.div f64.min f64.max f64.copysign'],
  [0xa7, 'l>i', 'i32.wrap_i64'],
  [0xa8, 'f>i', 'i32.trunc_f32_s i32.trunc_f32_u'],
  [0xaa, 'd>i', 'i32.trunc_f64_s i32.trunc_f64_u'],
  [0xac, 'i>l', 'i64.extend_i32_s i64.extend_i32_u'],
  [0xae, 'f>l', 'i64.trunc_f32_s i64.trunc_f32_u'],
  [0xb0, 'd>l', 'i64.trunc_f64_s i64.trunc_f64_u'],
  [0xb2, 'i>f', 'f32.convert_i32_s f32.convert_i32_u'],
  [0xb4, 'l>f', 'f32.convert_i64_s f32.convert_i64_u'],
  [0xb6, 'd>f', 'f32.demote_f64'],
  [0xb7, 'i>d', 'f64.convert_i32_s f64.convert_i32_u'],
  [0xb9, 'l>d', 'f64.convert_i64_s f64.convert_i64_u'],
  [0xbb, 'f>d', 'f64.promote_f32'],
  [0xbc, 'f>i', 'i32.reinterpret_f32'],
  [0xbd, 'd>l', 'i64.reinterpret_f64'],
  [0xbe, 'i>f', 'f32.reinterpret_i32'],
  [0xbf, 'l>d', 'f64.reinterpret_i64'],
  [0xc0, 'i>i', 'i32.extend8_s i32.extend16_s'],
  [0xc2, 'l>l', 'i64.extend8_s i64.extend16_s i64.extend32_s'],
];

const saturating: readonly (readonly [number, string, string])[] = [
  [0, 'f>i', 'i32.trunc_sat_f32_s i32.trunc_sat_f32_u'],
  [2, 'd>i', 'i32.trunc_sat_f64_s i32.trunc_sat_f64_u'],
  [4, 'f>l', 'i64.trunc_sat_f32_s i64.trunc_sat_f32_u'],
  [6, 'd>l', 'i64.trunc_sat_f64_s i64.trunc_sat_f64_u'],
];

const compareInt = (t: string) =>
  `${t}.eq ${t}.ne ${t}.lt_s ${t}.lt_u ${t}.gt_s ${t}.gt_u ${t}.le_s ${t}.le_u ${t}.ge_s ${t}.ge_u`;
const compareFloat = (t: string) => `${t}.eq ${t}.ne ${t}.lt ${t}.gt ${t}.le ${t}.ge`;

const simd: readonly (readonly [number, string, string])[] = [
  [14, 'vv>v', 'i8x16.swizzle'],
  [15, 'i>v', 'i8x16.splat i16x8.splat i32x4.splat'],
  [18, 'l>v', 'i64x2.splat'],
  [19, 'f>v', 'f32x4.splat'],
  [20, 'd>v', 'f64x2.splat'],
  [
    35,
    'vv>v',
    `${compareInt('i8x16')} ${compareInt('i16x8')} ${compareInt('i32x4')} ${compareFloat('f32x4')} ${compareFloat('f64x2')}`,
  ],
  [77, 'v>v', 'v128.not'],
  [78, 'vv>v', 'v128.and v128.andnot v128.or v128.xor'],
  [82, 'vvv>v', 'v128.bitselect'],
  [83, 'v>i', 'v128.any_true'],
  [94, 'v>v', 'f32x4.demote_f64x2_zero f64x2.promote_low_f32x4 i8x16.abs i8x16.neg i8x16.popcnt'],
  [99, 'v>i', 'i8x16.all_true i8x16.bitmask'],
  [101, 'vv>v', 'i8x16.narrow_i16x8_s i8x16.narrow_i16x8_u'],
  [103, 'v>v', 'f32x4.ceil f32x4.floor f32x4.trunc f32x4.nearest'],
  [107, 'vi>v', 'i8x16.shl i8x16.shr_s i8x16.shr_u'],
  [110, 'vv>v', 'i8x16.add i8x16.add_sat_s i8x16.add_sat_u i8x16.sub i8x16.sub_sat_s i8x16.sub_sat_u'],
  [116, 'v>v', 'f64x2.ceil f64x2.floor'],
  [118, 'vv>v', 'i8x16.min_s i8x16.min_u i8x16.max_s i8x16.max_u'],
  [122, 'v>v', 'f64x2.trunc'],
  [123, 'vv>v', 'i8x16.avgr_u'],
  [
    124,
    'v>v',
    'i16x8.extadd_pairwise_i8x16_s i16x8.extadd_pairwise_i8x16_u i32x4.extadd_pairwise_i16x8_s i32x4.extadd_pairwise_i16x8_u i16x8.abs i16x8.neg',
  ],
  [130, 'vv>v', 'i16x8.q15mulr_sat_s'],
  [131, 'v>i', 'i16x8.all_true i16x8.bitmask'],
  [133, 'vv>v', 'i16x8.narrow_i32x4_s i16x8.narrow_i32x4_u'],
  [135, 'v>v', 'i16x8.extend_low_i8x16_s i16x8.extend_high_i8x16_s i16x8.extend_low_i8x16_u i16x8.extend_high_i8x16_u'],
  [139, 'vi>v', 'i16x8.shl i16x8.shr_s i16x8.shr_u'],
  [142, 'vv>v', 'i16x8.add i16x8.add_sat_s i16x8.add_sat_u i16x8.sub i16x8.sub_sat_s i16x8.sub_sat_u'],
  [148, 'v>v', 'f64x2.nearest'],
  [149, 'vv>v', 'i16x8.mul i16x8.min_s i16x8.min_u i16x8.max_s i16x8.max_u'],
  [
    155,
    'vv>v',
    'i16x8.avgr_u i16x8.extmul_low_i8x16_s i16x8.extmul_high_i8x16_s i16x8.extmul_low_i8x16_u i16x8.extmul_high_i8x16_u',
  ],
  [160, 'v>v', 'i32x4.abs i32x4.neg'],
  [163, 'v>i', 'i32x4.all_true i32x4.bitmask'],
  [167, 'v>v', 'i32x4.extend_low_i16x8_s i32x4.extend_high_i16x8_s i32x4.extend_low_i16x8_u i32x4.extend_high_i16x8_u'],
  [171, 'vi>v', 'i32x4.shl i32x4.shr_s i32x4.shr_u'],
  [174, 'vv>v', 'i32x4.add'],
  [177, 'vv>v', 'i32x4.sub'],
  [181, 'vv>v', 'i32x4.mul i32x4.min_s i32x4.min_u i32x4.max_s i32x4.max_u i32x4.dot_i16x8_s'],
  [
    188,
    'vv>v',
    'i32x4.extmul_low_i16x8_s i32x4.extmul_high_i16x8_s i32x4.extmul_low_i16x8_u i32x4.extmul_high_i16x8_u',
  ],
  [192, 'v>v', 'i64x2.abs i64x2.neg'],
  [195, 'v>i', 'i64x2.all_true i64x2.bitmask'],
  [199, 'v>v', 'i64x2.extend_low_i32x4_s i64x2.extend_high_i32x4_s i64x2.extend_low_i32x4_u i64x2.extend_high_i32x4_u'],
  [203, 'vi>v', 'i64x2.shl i64x2.shr_s i64x2.shr_u'],
  [206, 'vv>v', 'i64x2.add'],
  [209, 'vv>v', 'i64x2.sub'],
  [213, 'vv>v', 'i64x2.mul i64x2.eq i64x2.ne i64x2.lt_s i64x2.gt_s i64x2.le_s i64x2.ge_s'],
  [
    220,
    'vv>v',
    'i64x2.extmul_low_i32x4_s i64x2.extmul_high_i32x4_s i64x2.extmul_low_i32x4_u i64x2.extmul_high_i32x4_u',
  ],
  [224, 'v>v', 'f32x4.abs f32x4.neg'],
  [227, 'v>v', 'f32x4.sqrt'],
  [228, 'vv>v', 'f32x4.add f32x4.sub f32x4.mul f32x4.div f32x4.min f32x4.max f32x4.pmin f32x4.pmax'],
  [236, 'v>v', 'f64x2.abs f64x2.neg'],
  [239, 'v>v', 'f64x2.sqrt'],
  [240, 'vv>v', 'f64x2.add f64x2.sub f64x2.mul f64x2.div f64x2.min f64x2.max f64x2.pmin f64x2.pmax'],
  [248, 'v>v', 'i32x4.trunc_sat_f32x4_s i32x4.trunc_sat_f32x4_u f32x4.convert_i32x4_s f32x4.convert_i32x4_u'],
  [
    252,
    'v>v',
    'i32x4.trunc_sat_f64x2_s_zero i32x4.trunc_sat_f64x2_u_zero f64x2.convert_low_i32x4_s f64x2.convert_low_i32x4_u',
  ],
];

function build(): Map<string, OpInfo> {
  const table = new Map<string, OpInfo>();
  for (const [prefix, rows] of [
    [0, plain],
    [0xfc, saturating],
    [0xfd, simd],
  ] as const) {
    for (const [first, signature, names] of rows) {
      const [params = '', result = ''] = signature.split('>');
      names.split(' ').forEach((name, i) => {
        table.set(name, {
          name,
          prefix,
          code: first + i,
          params: [...params].map((c) => letters[c]!),
          result: letters[result]!,
        });
      });
    }
  }
  return table;
}

const table = build();

/** Looks up a plain instruction by its text-format name; throws on a name that the table does not hold. */
export function opInfo(name: string): OpInfo {
  const info = table.get(name);
  if (!info) throw new Error(`unknown WebAssembly instruction ${name}`);
  return info;
}

/** Memory accesses: opcode, value type, log2 of the natural alignment; SIMD ones have the 0xfd prefix. */
export const loads: Record<string, readonly [number, number, ValType, number]> = {
  'i32.load': [0, 0x28, 'i32', 2],
  'i64.load': [0, 0x29, 'i64', 3],
  'f32.load': [0, 0x2a, 'f32', 2],
  'f64.load': [0, 0x2b, 'f64', 3],
  'i32.load8_s': [0, 0x2c, 'i32', 0],
  'i32.load8_u': [0, 0x2d, 'i32', 0],
  'i32.load16_s': [0, 0x2e, 'i32', 1],
  'i32.load16_u': [0, 0x2f, 'i32', 1],
  'i64.load8_s': [0, 0x30, 'i64', 0],
  'i64.load8_u': [0, 0x31, 'i64', 0],
  'i64.load16_s': [0, 0x32, 'i64', 1],
  'i64.load16_u': [0, 0x33, 'i64', 1],
  'i64.load32_s': [0, 0x34, 'i64', 2],
  'i64.load32_u': [0, 0x35, 'i64', 2],
  'v128.load': [0xfd, 0, 'v128', 4],
  'v128.load8_splat': [0xfd, 7, 'v128', 0],
  'v128.load16_splat': [0xfd, 8, 'v128', 1],
  'v128.load32_splat': [0xfd, 9, 'v128', 2],
  'v128.load64_splat': [0xfd, 10, 'v128', 3],
  'v128.load32_zero': [0xfd, 92, 'v128', 2],
  'v128.load64_zero': [0xfd, 93, 'v128', 3],
};

export const stores: Record<string, readonly [number, number, ValType, number]> = {
  'i32.store': [0, 0x36, 'i32', 2],
  'i64.store': [0, 0x37, 'i64', 3],
  'f32.store': [0, 0x38, 'f32', 2],
  'f64.store': [0, 0x39, 'f64', 3],
  'i32.store8': [0, 0x3a, 'i32', 0],
  'i32.store16': [0, 0x3b, 'i32', 1],
  'i64.store8': [0, 0x3c, 'i64', 0],
  'i64.store16': [0, 0x3d, 'i64', 1],
  'i64.store32': [0, 0x3e, 'i64', 2],
  'v128.store': [0xfd, 11, 'v128', 4],
};

/** Lane access: opcode, result type, operand type of replace_lane (equal to the result of extract_lane). */
export const lanes: Record<string, readonly [number, ValType]> = {
  'i8x16.extract_lane_s': [21, 'i32'],
  'i8x16.extract_lane_u': [22, 'i32'],
  'i16x8.extract_lane_s': [24, 'i32'],
  'i16x8.extract_lane_u': [25, 'i32'],
  'i32x4.extract_lane': [27, 'i32'],
  'i64x2.extract_lane': [29, 'i64'],
  'f32x4.extract_lane': [31, 'f32'],
  'f64x2.extract_lane': [33, 'f64'],
};

export const replaceLanes: Record<string, readonly [number, ValType]> = {
  'i8x16.replace_lane': [23, 'i32'],
  'i16x8.replace_lane': [26, 'i32'],
  'i32x4.replace_lane': [28, 'i32'],
  'i64x2.replace_lane': [30, 'i64'],
  'f32x4.replace_lane': [32, 'f32'],
  'f64x2.replace_lane': [34, 'f64'],
};
