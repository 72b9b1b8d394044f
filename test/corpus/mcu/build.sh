#!/bin/sh -eu
# Makes v8m.elf and one log for each scenario, and threads.elf and its log. Needs gcc-arm-none-eabi and qemu-system-arm.
cd "$(dirname "$0")"
arm-none-eabi-gcc -mcpu=cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16 -mcmse -Os -g -ffreestanding -fno-tree-loop-distribute-patterns -nostdlib \
  -ffile-prefix-map="$PWD"=. -Wl,--build-id=sha1 -Wl,-z,max-page-size=16 -T v8m.ld v8m.c -o v8m.elf
scenario=1
for name in stack-limit secure-access float-frame in-handler secure-transition; do
  qemu-system-arm -M mps2-an505 -display none -semihosting -serial stdio -kernel v8m.elf \
    -device loader,addr=0x3803F000,data=$scenario,data-len=4 < /dev/null > "v8m-$name.log"
  scenario=$((scenario + 1))
done
arm-none-eabi-gcc -mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16 -Os -g -ffreestanding -nostdlib -fno-optimize-sibling-calls \
  -ffile-prefix-map="$PWD"=. -Wl,--build-id=sha1 -Wl,-z,max-page-size=16 -T threads.ld threads.c -o threads.elf
qemu-system-arm -M mps2-an386 -display none -semihosting -serial stdio -kernel threads.elf < /dev/null > threads.log
