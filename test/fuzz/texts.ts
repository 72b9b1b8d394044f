/** Texts to start from that no corpus has: JavaScript stacks, source maps, mangled names. */
export const MAP_ID = '85314830023f4cf1a267535f4e37bb17'

const V8 = [
  'TypeError: Cannot read properties of undefined (reading \'value\')', '    at readSensor (app.js:1:234)', '    at async Promise.all (index 0)', '    at new Gateway (app.js:1:12)',
  '    at Object.<anonymous> (/opt/app/dist/app.js:1:40)', '    at eval (eval at run (app.js:1:99), <anonymous>:1:1)', '    at Array.map (<anonymous>)', '    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)',
].join('\n')
const HERMES = ['Error: boom', '    at throwIt (address at main.jsbundle:1:5432)', '    at anonymous (address at main.jsbundle:1:99)', '    at global (address at main.jsbundle:1:1)'].join('\n')
const JSC = ['readSensor@app.js:1:234', '@app.js:1:12', 'global code@app.js:1:40'].join('\n')

export const JS_STACKS: readonly string[] = [
  V8, HERMES, JSC,
  JSON.stringify({ error: { name: 'TypeError', message: 'x is not a function', stack: V8 }, engine: 'v8', debug_ids: { 'app.js': MAP_ID } }),
  JSON.stringify({ error: { name: 'Error', stack: HERMES }, engine: 'hermes', debug_ids: { 'main.jsbundle': MAP_ID } }),
]

const MAP = { version: 3, file: 'app.js', debugId: MAP_ID, sources: ['src/sensor.ts', 'src/gateway.ts'], names: ['readSensor', 'value', 'Gateway', 'run'], mappings: 'AAAA,SAASA,WAAWC,MAAM,CAACC,KAAK;ACAzB,MAAMC,GAAG;AAEb,SAASC;;AACT', sourcesContent: ['const a = 1', null] }
export const SOURCE_MAPS: readonly string[] = [
  JSON.stringify(MAP),
  JSON.stringify({ ...MAP, debugId: undefined, debug_id: MAP_ID, sourceRoot: 'webpack://', x_google_ignoreList: [0] }),
  JSON.stringify({ version: 3, debugId: MAP_ID, sections: [{ offset: { line: 0, column: 0 }, map: MAP }, { offset: { line: 10, column: 5 }, map: MAP }] }),
]

export const MANGLED: readonly string[] = [
  '_ZN38ExceptionHandlerTest_SimpleWithFD_Test8TestBodyEv', '_ZN7testing8internal18CmpHelperOpFailureIiiEENS_15AssertionResultEPKcS4_RKT_RKT0_S4_', '_ZNSt6vectorIiSaIiEE9push_backERKi',
  '_ZZN3foo3barEvENKUlvE_clEv', '_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc', '_ZTVN10__cxxabiv117__class_type_infoE', '_ZGVZ3foovE1x', '_ZN4core3fmt9Formatter9write_str17h0123456789abcdefE',
  '_RNvCs1234_7mycrate3foo', '_RINvNtC3std3mem8align_ofdE', '_RNvXs5_NtCsd4VYFwevHkG_4core3fmtINtB5_9ArgumentsEB5_', '_RNCNvCs1234_7mycrate4main0B3_',
  '?push_back@?$vector@HV?$allocator@H@std@@@std@@QEAAX$$QEAH@Z', '?Foo@Bar@@UEAAPEAXI@Z', '??_7type_info@@6B@', '?f@@YAXP6AXH@Z@Z', '$s4main3FooV3baryyF', '__ZN3foo3barEv', 'plain_name',
]

/** ESP-IDF's panic handler on both of its CPUs (esp_system's panic output). */
export const ESP_PANICS: readonly string[] = [
  [
    "Guru Meditation Error: Core  0 panic'ed (LoadProhibited). Exception was unhandled.", '', 'Core  0 register dump:',
    'PC      : 0x400d1f5c  PS      : 0x00060730  A0      : 0x800d2a1e  A1      : 0x3ffb4f50', 'A2      : 0x00000000  A3      : 0x3ffb4f80  A4      : 0x00000001  A5      : 0x00000000',
    'EXCVADDR: 0x00000010  LBEG    : 0x400014fd  LEND    : 0x4000150d  LCOUNT  : 0xffffffff', '', 'Backtrace: 0x400d1f59:0x3ffb4f50 0x400d2a1b:0x3ffb4f70 |<-CORRUPTED', '', 'ELF file SHA256: 8e2f4b0a7', '', 'Rebooting...',
  ].join('\r\n'),
  [
    "Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.", '', 'Core  0 register dump:', 'MEPC    : 0x42005d0c  RA      : 0x42005d0a  SP      : 0x3fc8fb90  GP      : 0x3fc8a600',
    'MSTATUS : 0x00001881  MTVEC   : 0x40380001  MCAUSE  : 0x00000005  MTVAL   : 0x00000000', '', 'Stack memory:', '3fc8fb90: 0x00000000 0x42005d0a 0x00000000 0x42016b2a 0x3fc8fbb0 0x00000000 0x00000000 0x00000000',
  ].join('\n'),
]
