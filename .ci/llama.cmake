# Builds of llama-cpp-python, given to CMake as an initial cache: CMAKE_ARGS="-C '$PWD/.ci/llama.cmake'".
# Python loads neither the vision library nor llama-common; without them the build takes a third.
set(LLAVA_BUILD OFF CACHE BOOL "")
set(CMAKE_PROJECT_llama.cpp_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/llama-without-common.cmake" CACHE FILEPATH "")
# A wheel that is kept must run on the next machine too; a person's own build may use every instruction.
if(DEFINED ENV{CI})
  set(GGML_NATIVE OFF CACHE BOOL "")
endif()
