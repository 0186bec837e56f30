#!/bin/bash
# The entry point of an image of Jupyter Enterprise Gateway as the tests know it: same variables, same arguments, same
# processes. The shell waits for the launcher and then exits with 0, whatever became of that.

PORT_RANGE=${PORT_RANGE:-${EG_PORT_RANGE:-0..0}}
RESPONSE_ADDRESS=${RESPONSE_ADDRESS:-${EG_RESPONSE_ADDRESS}}
PUBLIC_KEY=${PUBLIC_KEY:-${EG_PUBLIC_KEY}}
KERNEL_LAUNCHERS_DIR=${KERNEL_LAUNCHERS_DIR:-/usr/local/bin/kernel-launchers}
KERNEL_SPARK_CONTEXT_INIT_MODE=${KERNEL_SPARK_CONTEXT_INIT_MODE:-none}

if [[ -z ${KERNEL_LANGUAGE+x} || -z ${KERNEL_ID+x} || -z ${RESPONSE_ADDRESS+x} || -z ${PUBLIC_KEY+x} ]]; then
    echo "KERNEL_LANGUAGE, KERNEL_ID, RESPONSE_ADDRESS and PUBLIC_KEY are required."
    exit 1
fi
if [[ ${KERNEL_LANGUAGE,,} != python ]]; then
    echo "Unrecognized value for KERNEL_LANGUAGE: '${KERNEL_LANGUAGE}'!"
    exit 1
fi

export JPY_PARENT_PID=$$ # the kernel ends with this shell
set -x
python "${KERNEL_LAUNCHERS_DIR}/python/scripts/launch_ipykernel.py" --kernel-id "${KERNEL_ID}" \
    --port-range "${PORT_RANGE}" --response-address "${RESPONSE_ADDRESS}" --public-key "${PUBLIC_KEY}" \
    --spark-context-initialization-mode "${KERNEL_SPARK_CONTEXT_INIT_MODE}" \
    ${KERNEL_CLASS_NAME:+--kernel-class-name "${KERNEL_CLASS_NAME}"}
{ set +x; } 2>/dev/null
exit 0
