# Builds of llama-cpp-python, given to CMake as an initial cache: CMAKE_ARGS="-C '$PWD/.ci/llama.cmake'".
# Python does not load llama-common; without it the build takes less than half as long.
set(LLAVA_BUILD ON CACHE BOOL "")  # libmtmd, which reads images and audio
set(MTMD_VIDEO OFF CACHE BOOL "")  # it would start ffmpeg
set(CMAKE_PROJECT_llama.cpp_INCLUDE "${CMAKE_CURRENT_LIST_DIR}/llama-without-common.cmake" CACHE FILEPATH "")
# A wheel that is kept must run on the next machine too; a person's own build may use every instruction.
if(DEFINED ENV{CI})
  set(GGML_NATIVE OFF CACHE BOOL "")
endif()
