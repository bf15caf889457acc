# The package turns llama-common on by a plain variable, so only a plain variable set later turns it off.
set(LLAMA_BUILD_COMMON OFF)
